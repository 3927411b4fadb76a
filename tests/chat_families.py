"""Chat templates of model families: own Jinja texts that write what each family documents, and the rendering expected.

Nothing is copied: each template is written for these tests, with the constructs that templates of the family use, and
each expected text follows from the source named beside it. All render the same conversation, `TURNS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chatwright.records import conversation

SYSTEM, QUESTION, ANSWER, MORE = "Be brief.", "Why do bees hum?", "Their wings beat.", "How fast?"
TURNS = conversation(("system", SYSTEM), ("user", QUESTION), ("assistant", ANSWER), ("user", MORE))


@dataclass(frozen=True, kw_only=True)
class Family:
    """A format of conversations."""

    source: str
    """Where the format is documented."""
    jinja: str
    expected: str
    """`TURNS` with the generation prompt."""
    special: tuple[str, ...]
    """Control tokens; the first is bos where `bos` is set."""
    bos: str = ""
    eos: str = ""
    end: str = ""
    """Control token that ends an answer."""
    text: tuple[str, ...] = ()
    """Added tokens that are no control tokens."""
    pieces: bool = False
    """A SentencePiece vocabulary."""
    layout: str = "native"
    """The layout of ours that writes the same, if one does."""
    eats_blanks: tuple[str, ...] = ()
    """Control tokens that swallow the blanks after them."""
    extra: dict[str, Any] = field(default_factory=dict)
    """More of tokenizer_config.json."""


_CHATML = (
    "{%- for message in messages -%}\n{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor -%}\n{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
_CHATML_TEXT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy do bees hum?<|im_end|>\n"
    "<|im_start|>assistant\nTheir wings beat.<|im_end|>\n<|im_start|>user\nHow fast?<|im_end|>\n<|im_start|>assistant\n"
)
_TOOLS_QWEN = (
    "{%- macro tool_list(all) -%}\n# Tools\n\nFunctions, within <tools></tools>:\n<tools>{% for one in all %}\n"
    "{{ one | tojson }}{% endfor %}\n\n</tools>{%- endmacro -%}\n"
)
_TOOL_TURNS_QWEN = (
    "    {%- elif message.role == 'tool' %}\n"
    "        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}\n"
    "        {{- '\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response>' }}\n"
    "        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}\n"
)
_CALLS_QWEN = (
    "        {%- for call in message.tool_calls or [] %}\n"
    "            {%- if (loop.first and said) or not loop.first %}{{- '\\n' }}{%- endif %}\n"
    "            {%- if call.function %}{%- set call = call.function %}{%- endif %}\n"
    "            {{- '<tool_call>\\n{\"name\": \"' ~ call.name ~ '\", \"arguments\": ' ~ (call.arguments | tojson) ~ "
    "'}\\n</tool_call>' }}\n        {%- endfor %}\n"
)
QWEN2 = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN25 = (
    _TOOLS_QWEN + "{%- set first = messages[0] %}\n"
    "{%- set system = first.content if first.role == 'system' else 'You are Qwen, made to help.' %}\n"
    "{{- '<|im_start|>system\\n' ~ system }}{% if tools %}{{ '\\n\\n' ~ tool_list(tools) }}{% endif %}{{- "
    "'<|im_end|>\\n' }}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}\n"
    "        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == 'assistant' %}\n        {%- set said = message.content %}\n"
    "        {{- '<|im_start|>assistant\\n' ~ said }}\n" + _CALLS_QWEN + "        {{- '<|im_end|>\\n' }}\n"
    + _TOOL_TURNS_QWEN + "    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}\n"
)  # fmt: skip
# Thoughts of answers before the last question are left out; without thinking, an empty thought begins the answer.
QWEN3 = (
    _TOOLS_QWEN + "{%- if messages[0].role == 'system' or tools %}{{- '<|im_start|>system\\n' }}\n"
    "    {%- if messages[0].role == 'system' %}{{- messages[0].content }}{%- if tools %}{{- '\\n\\n' }}{%- "
    "endif %}{%- endif %}\n"
    "    {%- if tools %}{{- tool_list(tools) }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}\n"
    "{%- set ns = namespace(searching=true, last_question=messages | length - 1) %}\n"
    "{%- for message in messages[::-1] %}\n    {%- set index = (messages | length - 1) - loop.index0 %}\n"
    "    {%- if ns.searching and message.role == 'user' and message.content is string and not "
    "(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}\n"
    "        {%- set ns.searching = false %}{%- set ns.last_question = index %}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}\n"
    "        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == 'assistant' %}\n"
    "        {%- set said = message.content or '' %}{%- set thought = message.reasoning_content or '' %}\n"
    "        {%- if not thought and '</think>' in said %}\n"
    "            {%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n"
    "            {%- set said = said.split('</think>')[-1].lstrip('\\n') %}\n        {%- endif %}\n"
    "        {{- '<|im_start|>assistant\\n' }}\n"
    "        {%- if loop.index0 > ns.last_question and (loop.last or thought) %}\n"
    "            {{- '<think>\\n' ~ thought.strip('\\n') ~ '\\n</think>\\n\\n' ~ said.lstrip('\\n') }}\n"
    "        {%- else %}{{- said }}{%- endif %}\n" + _CALLS_QWEN + "        {{- '<|im_end|>\\n' }}\n"
    + _TOOL_TURNS_QWEN + "    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}\n"
    "{%- endif %}\n"
)  # fmt: skip
_LLAMA3_HEAD = "{%- macro head(role) -%}<|start_header_id|>{{ role }}<|end_header_id|>\n\n{% endmacro -%}\n"
LLAMA30 = (
    "{% for message in messages %}{% set text = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set text = bos_token + text %}{% endif %}"
    "{{ text }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


def llama31(clock: bool) -> str:
    """Llama 3.1 (a fixed date) or 3.2 and 3.3 (`strftime_now`)."""
    date = "strftime_now('%d %b %Y')" if clock else "'26 Jul 2024'"
    return (
        "{{- bos_token }}\n{%- if not date_string is defined %}{%- set date_string = " + date + " %}{%- endif %}\n"
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] | trim %}\n"
        "    {%- set messages = messages[1:] %}\n{%- else %}{%- set system = '' %}{%- endif %}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n"
        "{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{%- endif %}\n"
        "{{- 'Cutting Knowledge Date: December 2023\\n' }}{{- 'Today Date: ' + date_string + '\\n\\n' }}\n"
        "{{- system }}{{- '<|eot_id|>' }}\n{%- for message in messages %}\n"
        "    {%- if message.role == 'tool' or message.role == 'ipython' %}\n"
        "        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}\n"
        "        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}\n"
        "        {%- else %}{{- message.content }}{%- endif %}\n        {{- '<|eot_id|>' }}\n"
        "    {%- elif 'tool_calls' in message %}\n"
        "        {%- if not message.tool_calls | length == 1 %}{{- raise_exception('One call at a time') }}{%- endif %}\n"
        "        {%- set call = message.tool_calls[0].function %}\n"
        "        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
        "        {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{- call.arguments | tojson }}{{- '}' }}\n"
        "        {{- '<|eot_id|>' }}\n    {%- else %}\n"
        "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim "
        "+ '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}\n"
    )


_LLAMA31_TEXT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhy do bees hum?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nTheir wings beat.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHow fast?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>")
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set system = false %}{% endif %}{% for message in turns %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_V1 = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles') }}{% endif %}{% endfor %}"
)
# The system message goes before the last question, wherever that is.
MISTRAL_V3 = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}\n"
    "{%- else %}{%- set turns = messages %}{%- endif %}\n"
    "{%- set ns = namespace(count=0) %}\n{%- for message in turns %}\n"
    "    {%- if message.role in ('user', 'assistant') and message.tool_calls is not defined %}\n"
    "        {%- if (message['role'] == 'user') != (ns.count % 2 == 0) %}\n"
    "            {{- raise_exception('After the optional system message, roles must alternate') }}\n"
    "        {%- endif %}\n        {%- set ns.count = ns.count + 1 %}\n    {%- endif %}\n{%- endfor %}\n"
    "{{- bos_token }}\n{%- for message in turns %}\n    {%- if message['role'] == 'user' %}\n"
    "        {%- if loop.last and system is defined %}{{- '[INST] ' + system + '\\n\\n' + message['content'] + "
    "'[/INST]' }}\n"
    "        {%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}\n"
    "    {%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] | trim + eos_token }}\n"
    "    {%- else %}{{- raise_exception('Only user and assistant roles are supported') }}\n    {%- endif %}\n{%- endfor %}\n"
)
MISTRAL_V7 = (
    "{{- bos_token }}\n{%- for message in messages %}\n"
    "    {%- if message['role'] == 'user' %}{{- '[INST]' + message['content'] + '[/INST]' }}\n"
    "    {%- elif message['role'] == 'system' %}{{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}\n"
    "    {%- elif message['role'] == 'assistant' %}{{- message['content'] + eos_token }}\n"
    "    {%- else %}{{- raise_exception('Only user, system and assistant roles are supported!') }}\n"
    "    {%- endif %}\n{%- endfor %}\n"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + "
    "eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n"
    "    {%- if messages[0]['content'] is string -%}{%- set prefix = messages[0]['content'] + '\\n\\n' -%}\n"
    "    {%- else -%}{%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}\n"
    "    {%- set turns = messages[1:] -%}\n{%- else -%}\n    {%- set prefix = '' -%}{%- set turns = messages -%}"
    "\n{%- endif -%}\n"
    "{%- for message in turns -%}\n    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
    "        {{ raise_exception('Conversation roles must alternate user/assistant') }}\n    {%- endif -%}\n"
    "    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}\n"
    "    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else '') }}\n"
    "    {%- if message['content'] is string -%}{{ message['content'] | trim }}\n"
    "    {%- else -%}{%- for part in message['content'] -%}{{ part['text'] | trim }}{%- endfor -%}{%- endif -%}\n"
    "    {{ '<end_of_turn>\\n' }}\n{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}\n"
)
PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + "
    "'<|end|>\\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
DEEPSEEK_R1 = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system}}"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)
SMOLLM3 = (
    "{%- if enable_thinking is not defined -%}{%- set enable_thinking = true -%}{%- endif -%}\n"
    "{%- set mode = '/think' if enable_thinking else '/no_think' -%}\n"
    "{{- '<|im_start|>system\\n## Metadata\\n\\nToday Date: ' ~ strftime_now('%d %B %Y') ~ '\\nReasoning Mode: "
    "' ~ mode ~ '\\n\\n' "
    "-}}\n{%- if messages[0].role == 'system' -%}{{- '## Custom Instructions\\n\\n' ~ messages[0].content | "
    "trim ~ '\\n\\n' -}}\n"
    "{%- endif -%}{{- '<|im_end|>\\n' -}}\n{%- for message in messages -%}\n"
    "    {%- if message.role == 'user' -%}{{ '<|im_start|>user\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == 'assistant' -%}\n        {% generation %}\n"
    "        {%- set said = message.content if message.content is string else '' -%}\n"
    "        {%- if not enable_thinking %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' ~ "
    "said.lstrip('\\n') ~ '<|im_end|>\\n' -}}\n"
    "        {%- else %}{{- '<|im_start|>assistant\\n' ~ said.lstrip('\\n') ~ '<|im_end|>\\n' -}}{%- endif %}\n"
    "        {% endgeneration %}\n    {%- elif message.role == 'tool' -%}\n"
    "        {{ '<|im_start|>user\\n' ~ message.content ~ '<|im_end|>\\n' }}\n    {%- else -%}{%- continue -%}\n"
    "    {%- endif -%}\n{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}"
    "{%- if not enable_thinking -%}{{- '<think>\\n\\n</think>\\n' -}}{%- endif -%}{%- endif -%}\n"
)
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}"
    "{{ '<|assistant|>\\n'  + message['content'] + eos_token + '\\n' }}{% else %}"
    "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}"
)
GRANITE = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}\n"
    "{%- else %}{%- set system = 'Knowledge Cutoff Date: April 2024.\\nToday\\'s Date: ' + strftime_now('%B %d, "
    "%Y') + '.' %}\n"
    "{%- set turns = messages %}{%- endif %}\n"
    "{{- '<|start_of_role|>system<|end_of_role|>' + system + '<|end_of_text|>\\n' }}\n{%- for message in turns %}\n"
    "    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}\n"
    "    {%- if loop.last and add_generation_prompt %}\n        {{- '<|start_of_role|>assistant' }}\n"
    "        {{- '<|end_of_role|>' }}\n    {%- endif %}\n{%- endfor %}"
)
_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

FAMILIES: dict[str, Family] = {
    "chatml": Family(
        source="ChatML, github.com/openai/openai-python, chatml.md at v0.28",
        jinja=_CHATML, expected=_CHATML_TEXT, special=_IM, eos="<|im_end|>", end="<|im_end|>", layout="chatml",
    ),
    "hermes": Family(
        source="model card of NousResearch/Hermes-2-Pro-Mistral-7B: ChatML in a SentencePiece vocabulary, with bos",
        jinja="{{ bos_token }}" + _CHATML, expected="<s>" + _CHATML_TEXT,
        special=("<s>", "</s>", "<|im_start|>", "<|im_end|>"), bos="<s>", eos="<|im_end|>", end="<|im_end|>", pieces=True,
    ),
    "smollm2": Family(
        source="model card of HuggingFaceTB/SmolLM2-135M-Instruct",
        jinja=QWEN2.replace("You are a helpful assistant.", "You are a helpful AI assistant named SmolLM"),
        expected=_CHATML_TEXT, special=_IM, bos="<|im_start|>", eos="<|im_end|>", end="<|im_end|>", layout="chatml",
    ),
    "qwen2": Family(
        source="qwen.readthedocs.io, Key Concepts: Control Tokens & Chat Template",
        jinja=QWEN2, expected=_CHATML_TEXT, special=_IM, eos="<|im_end|>", end="<|im_end|>", layout="chatml",
    ),
    "qwen2.5": Family(
        source="qwen.readthedocs.io, Function Calling: template of Qwen2.5 (Hermes-style)",
        jinja=QWEN25, expected=_CHATML_TEXT, special=_IM, eos="<|im_end|>", end="<|im_end|>",
        text=("<tool_call>", "</tool_call>"),
    ),
    "qwen3": Family(
        source="model card of Qwen/Qwen3-0.6B: enable_thinking, no thoughts in the history",
        jinja=QWEN3, expected=_CHATML_TEXT + "<think>\n\n</think>\n\n", special=_IM, eos="<|im_end|>", end="<|im_end|>",
        text=("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "smollm3": Family(
        source="model card of HuggingFaceTB/SmolLM3-3B: metadata with the date, /think and /no_think",
        jinja=SMOLLM3, special=_IM, eos="<|im_end|>", end="<|im_end|>", text=("<think>", "</think>"),
        expected="<|im_start|>system\n## Metadata\n\nToday Date: 26 July 2024\nReasoning Mode: /no_think\n\n"
        "## Custom Instructions\n\nBe brief.\n\n<|im_end|>\n<|im_start|>user\nWhy do bees hum?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\nTheir wings beat.<|im_end|>\n<|im_start|>user\nHow fast?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n",
    ),
    "llama2": Family(
        source="llama.meta.com, Llama 2: prompt template; reference code facebookresearch/llama, generation.py",
        jinja=LLAMA2, special=("<s>", "</s>"), bos="<s>", eos="</s>", end="</s>", pieces=True,
        expected="<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy do bees hum? [/INST] Their wings beat. </s>"
        "<s>[INST] How fast? [/INST]",
    ),
    "llama3.0": Family(
        source="llama.com, Llama 3: model cards and prompt formats",
        jinja=LLAMA30, special=_LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>", end="<|eot_id|>", layout="llama3",
        expected=_LLAMA31_TEXT.replace("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n", ""),
    ),
    "llama3.1": Family(
        source="llama.com, Llama 3.1: model cards and prompt formats (dates in the system turn)",
        jinja=llama31(False), special=_LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>", end="<|eot_id|>",
        expected=_LLAMA31_TEXT,
    ),
    "llama3.2 and 3.3": Family(
        source="llama.com, Llama 3.2 and 3.3: model cards and prompt formats (today's date)",
        jinja=llama31(True), special=_LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>", end="<|eot_id|>",
        expected=_LLAMA31_TEXT,
    ),
    "mistral v1": Family(
        source="mistral-common docs, Tokenizers: V1 (Mistral 7B v0.1 and v0.2); it has no system turn",
        jinja=MISTRAL_V1, special=("<s>", "</s>"), bos="<s>", eos="</s>", end="</s>", pieces=True,
        expected="<s>[INST] Be brief.\n\nWhy do bees hum? [/INST]Their wings beat.</s> [INST] How fast? [/INST]",
    ),
    "mistral v3": Family(
        source="mistral-common docs, Tokenizers: V3 (Mistral 7B v0.3); system text goes before the last question",
        jinja=MISTRAL_V3, special=("<s>", "</s>", "[INST]", "[/INST]"), bos="<s>", eos="</s>", end="</s>", pieces=True,
        expected="<s>[INST] Why do bees hum?[/INST] Their wings beat.</s>[INST] Be brief.\n\nHow fast?[/INST]",
    ),
    "mistral v7": Family(
        source="mistral-common docs, Tokenizers: V7-Tekken (Mistral Small 24B); system turn, no blanks",
        jinja=MISTRAL_V7, special=("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        bos="<s>", eos="</s>", end="</s>",
        expected="<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Why do bees hum?[/INST]Their wings beat.</s>"
        "[INST]How fast?[/INST]",
    ),
    "zephyr": Family(
        source="model card of HuggingFaceH4/zephyr-7b-beta",
        jinja=ZEPHYR, special=("<s>", "</s>"), bos="<s>", eos="</s>", end="</s>", pieces=True,
        expected="<|system|>\nBe brief.</s>\n<|user|>\nWhy do bees hum?</s>\n<|assistant|>\nTheir wings beat.</s>\n"
        "<|user|>\nHow fast?</s>\n<|assistant|>\n",
    ),
    "tinyllama": Family(
        source="model card of TinyLlama/TinyLlama-1.1B-Chat-v1.0 (Zephyr's format)",
        jinja=ZEPHYR, special=("<s>", "</s>"), bos="<s>", eos="</s>", end="</s>", pieces=True,
        expected="<|system|>\nBe brief.</s>\n<|user|>\nWhy do bees hum?</s>\n<|assistant|>\nTheir wings beat.</s>\n"
        "<|user|>\nHow fast?</s>\n<|assistant|>\n", extra={"padding_side": "right"},
    ),
    "gemma2": Family(
        source="ai.google.dev, Gemma formatting and system instructions: no system turn, its text goes before the question",
        jinja=GEMMA2, special=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>", eos="<eos>",
        end="<end_of_turn>", pieces=True, layout="gemma",
        expected="<bos><start_of_turn>user\nBe brief.\n\nWhy do bees hum?<end_of_turn>\n<start_of_turn>model\n"
        "Their wings beat.<end_of_turn>\n<start_of_turn>user\nHow fast?<end_of_turn>\n<start_of_turn>model\n",
    ),
    "gemma3": Family(
        source="ai.google.dev, Gemma formatting and system instructions",
        jinja=GEMMA3, special=("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>", eos="<eos>",
        end="<end_of_turn>", pieces=True, layout="gemma",
        expected="<bos><start_of_turn>user\nBe brief.\n\nWhy do bees hum?<end_of_turn>\n<start_of_turn>model\n"
        "Their wings beat.<end_of_turn>\n<start_of_turn>user\nHow fast?<end_of_turn>\n<start_of_turn>model\n",
    ),
    "phi3": Family(
        source="model card of microsoft/Phi-3-mini-4k-instruct; its tokens swallow the line end after them",
        jinja=PHI3, special=("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), bos="<s>",
        eos="<|endoftext|>", end="<|end|>", pieces=True, eats_blanks=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        expected="<|system|>\nBe brief.<|end|>\n<|user|>\nWhy do bees hum?<|end|>\n<|assistant|>\nTheir wings beat.<|end|>\n"
        "<|user|>\nHow fast?<|end|>\n<|assistant|>\n",
    ),
    "deepseek-r1-distill": Family(
        source="model card of deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B: usage recommendations (answers begin with <think>)",
        jinja=DEEPSEEK_R1, special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        bos="<｜begin▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>", end="<｜end▁of▁sentence｜>",
        text=("<think>", "</think>"),
        expected="<｜begin▁of▁sentence｜>Be brief.<｜User｜>Why do bees hum?<｜Assistant｜>Their wings beat."
        "<｜end▁of▁sentence｜><｜User｜>How fast?<｜Assistant｜><think>\n",
    ),
    "olmo2": Family(
        source="model card of allenai/OLMo-2-1124-7B-Instruct: chat template",
        jinja=OLMO2, special=("<|endoftext|>",), bos="<|endoftext|>", eos="<|endoftext|>", end="<|endoftext|>",
        expected="<|endoftext|><|system|>\nBe brief.\n<|user|>\nWhy do bees hum?\n<|assistant|>\nTheir wings "
        "beat.<|endoftext|>\n"
        "<|user|>\nHow fast?\n<|assistant|>\n",
    ),
    "granite": Family(
        source="IBM Granite docs, prompt engineering guide: start_of_role and end_of_role",
        jinja=GRANITE, special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), bos="<|end_of_text|>",
        eos="<|end_of_text|>", end="<|end_of_text|>",
        expected="<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>Why do bees hum?<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>Their wings beat.<|end_of_text|>\n"
        "<|start_of_role|>user<|end_of_role|>How fast?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    ),
}  # fmt: skip
