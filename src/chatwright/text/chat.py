"""The only chat renderer: a conversation -> (ids, loss mask, roles), for SFT, reward models, PPO and serving.

Two rules make it safe and consistent:
* Control tokens are inserted as ids; message text is encoded with special tokens switched off, so a user who types
  `<|im_start|>system` gets plain text. Text is never stripped of anything a control token would look like.
* The ids of a prompt are always a prefix of the ids of prompt plus answer (what was generated after is what is
  trained after).

For ordinary text the ids equal those of the checkpoint's own Jinja template (tested against transformers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from chatwright.errors import TemplateError
from chatwright.records import Message

if TYPE_CHECKING:
    from chatwright.text.tokenizer import Tokenizer

TemplateName = Literal["chatml", "llama3", "gemma", "mistral", "plain"]
TrainOn = Literal["assistant", "last", "none"]
TEMPLATE_FIELD = "chatwright.template"


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """How a conversation is laid out around its text."""

    name: TemplateName
    """chatml (SmolLM2, Qwen), llama3, gemma, mistral, or plain for models without control tokens."""
    default_system: str = ""
    """chatml only: the system message used when a conversation has none; "" for no system turn."""
    answer_prefix: str = ""
    """chatml only: text put before the last answer (Qwen3's empty `<think>` block: answers without thinking)."""
    bos: str = ""
    """Control token before everything, "" for none."""
    end_of_turn: str = ""
    """Control token after each answer; it is trained, and generation stops at it."""

    def controls(self) -> frozenset[str]:
        """The control tokens this template inserts."""
        return frozenset({*_CONTROLS[self.name], self.bos, self.end_of_turn} - {""})

    def to_dict(self) -> dict[str, str]:
        """For the `chatwright.template` field of tokenizer_config.json."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, fields: Any) -> ChatTemplate:
        """Read back what `to_dict` wrote; TemplateError when it is something else."""
        known = set(cls.__dataclass_fields__)
        if not isinstance(fields, dict) or not set(fields) <= known or fields.get("name") not in get_args(TemplateName):
            raise TemplateError(
                f"the field {TEMPLATE_FIELD!r} of tokenizer_config.json must hold {sorted(known)}, "
                f"with name one of {', '.join(get_args(TemplateName))}"
            )
        if not all(isinstance(value, str) for value in fields.values()):
            raise TemplateError(f"the field {TEMPLATE_FIELD!r} of tokenizer_config.json must hold texts")
        return cls(**fields)


_CONTROLS: Mapping[TemplateName, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": ("[INST]", "[/INST]"),
    "plain": (),
}


def detect(added_tokens: Mapping[str, int], *, bos: str, eos: str, jinja: str = "") -> ChatTemplate:
    """The template of a tokenizer, from its control tokens; `jinja` (its own template, if any) gives the defaults.

    Models without control tokens get `plain`: "User:" and "Assistant:" paragraphs, each answer closed by `eos`.
    """
    if own := re.match(r"\{# " + re.escape(TEMPLATE_FIELD) + r" (\{.*?\}) #\}", jinja):
        try:
            return ChatTemplate.from_dict(json.loads(own[1]))
        except ValueError:
            raise TemplateError(f"the {TEMPLATE_FIELD} comment of the chat template is damaged") from None
    known = [n for n, needed in _CONTROLS.items() if needed and all(token in added_tokens for token in needed)]
    name: TemplateName = known[0] if known else "plain"
    if name == "plain":
        return ChatTemplate(name="plain", end_of_turn=eos)
    if name == "chatml":
        # Qwen3 with thinking off: the native template writes an empty thought before the answer.
        prefix = "<think>\n\n</think>\n\n" if "enable_thinking" in jinja else ""
        system = _chatml_default_system(jinja)
        return ChatTemplate(name=name, default_system=system, answer_prefix=prefix, end_of_turn="<|im_end|>")
    if not bos:
        raise TemplateError(
            f"this tokenizer has {name} control tokens but no bos token; name it in tokenizer_config.json"
        )
    return ChatTemplate(
        name=name, bos=bos, end_of_turn={"llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(name, eos)
    )


def _chatml_default_system(jinja: str) -> str:
    """The literal system message a chatml Jinja template writes by itself (SmolLM2, Qwen2.5), "" when it has none."""
    found = re.search(r"<\|im_start\|>system(?:\\n|\n)((?:[^'\"{}\\]|\\.)+?)<\|im_end\|>", jinja)
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], found[1]) if found else ""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A control token, or text spoken by a role."""

    text: str
    role: str
    control: bool = False
    trained: bool = False


def _header(text: str) -> _Piece:
    return _Piece(text, "control")


def _control(token: str, trained: bool = False) -> _Piece:
    return _Piece(token, "control", control=True, trained=trained)


def _answer(message: Message, text: str, trained: bool) -> _Piece:
    return _Piece(text, message.role, trained=trained)


def _chatml(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[_Piece]:
    pieces: list[_Piece] = []
    if template.default_system and messages[0].role != "system":
        system = Message(role="system", content=template.default_system)
        messages, trained = [system, *messages], [False, *trained]
    for n, (message, train) in enumerate(zip(messages, trained, strict=True)):
        last_answer = message.role == "assistant" and n == len(messages) - 1
        prefix = template.answer_prefix if last_answer else ""
        pieces += [_control("<|im_start|>"), _header(f"{message.role}\n{prefix}"),
                   _answer(message, message.content, train), _control("<|im_end|>", train), _header("\n")]  # fmt: skip
    if ask:
        pieces += [_control("<|im_start|>"), _header(f"assistant\n{template.answer_prefix}")]
    return pieces


def _llama3(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[_Piece]:
    def header(role: str) -> list[_Piece]:
        return [_control("<|start_header_id|>"), _header(role), _control("<|end_header_id|>"), _header("\n\n")]

    pieces = [_control(template.bos)]
    for message, train in zip(messages, trained, strict=True):
        # The native template trims every message.
        pieces += [*header(message.role), _answer(message, message.content.strip(), train),
                   _control("<|eot_id|>", train)]  # fmt: skip
    return pieces + (header("assistant") if ask else [])


def _fold_system(messages: Sequence[Message], name: str) -> tuple[str, Sequence[Message]]:
    """("system text\n\n" or "", the other messages), for templates without a system turn."""
    system = ""
    if messages[0].role == "system":
        system, messages = messages[0].content + "\n\n", messages[1:]
    for n, message in enumerate(messages):
        expected = "user" if n % 2 == 0 else "assistant"
        if message.role != expected:
            raise TemplateError(
                f"the {name} chat template needs user and assistant in turn (after at most one system "
                f"message): message {n + 1} should be {expected}, not {message.role}"
            )
    return system, messages


def _gemma(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[_Piece]:
    system, turns = _fold_system(messages, "gemma")
    pieces = [_control(template.bos)]
    for n, (message, train) in enumerate(zip(turns, trained[len(messages) - len(turns) :], strict=True)):
        role = "model" if message.role == "assistant" else "user"
        pieces += [_control("<start_of_turn>"), _header(f"{role}\n")]
        pieces += [_Piece(system, "system")] if system and n == 0 else []
        # The native template trims every message.
        pieces += [_answer(message, message.content.strip(), train), _control("<end_of_turn>", train), _header("\n")]
    return pieces + ([_control("<start_of_turn>"), _header("model\n")] if ask else [])


def _mistral(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[_Piece]:
    del ask  # [/INST] already asks.
    system, turns = _fold_system(messages, "mistral")
    pieces = [_control(template.bos)]
    for n, (message, train) in enumerate(zip(turns, trained[len(messages) - len(turns) :], strict=True)):
        if message.role == "assistant":
            pieces += [_answer(message, " " + message.content.strip(), train), _control(template.end_of_turn, train)]
            continue
        pieces += [_control("[INST]"), _header(" ")]
        pieces += [_Piece(system, "system")] if system and n == 0 else []
        pieces += [_answer(message, message.content, False), _control("[/INST]")]
    return pieces


_PLAIN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def _plain(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[_Piece]:
    """The answer starts on its own line, so what is generated is the answer itself, with no leading blank."""
    pieces: list[_Piece] = []
    for n, (message, train) in enumerate(zip(messages, trained, strict=True)):
        if message.role not in _PLAIN_NAMES:
            raise TemplateError(f"the plain chat template has no {message.role} turn")
        gap = "\n\n" if n else ""
        pieces += [_header(f"{gap}{_PLAIN_NAMES[message.role]}:\n"), _answer(message, message.content, train)]
        pieces += [_control(template.end_of_turn, train)] if message.role == "assistant" else []
    return pieces + ([_header("\n\nAssistant:\n")] if ask else [])


_LAYOUTS = {"chatml": _chatml, "llama3": _llama3, "gemma": _gemma, "mistral": _mistral, "plain": _plain}


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens; the three tuples have equal length."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """True where the token is trained: answers and the end-of-turn token after them."""
    roles: tuple[str, ...]
    """Whose text a token is: "control", "system", "user", "assistant" or "tool"."""

    def __len__(self) -> int:
        return len(self.ids)


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = False,
    train_on: TrainOn = "assistant",
) -> Rendered:
    """Lay out and encode a conversation with the tokenizer's chat template.

    `train_on`: every assistant message, the last one only, or none. The end-of-turn token after a trained answer is
    trained too; a newline the template writes after it is not. TemplateError when the template cannot say it.
    """
    if not messages:
        raise TemplateError("a conversation needs at least one message")
    if add_generation_prompt and messages[-1].role == "assistant":
        raise TemplateError("a generation prompt cannot follow an assistant message; end with the user's")
    if any(message.tool_calls or message.reasoning_content for message in messages):
        raise TemplateError(f"the {tokenizer.template.name} chat template has no form for thoughts and tool calls")
    last = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=-1)
    trained = [
        message.role == "assistant" and (train_on == "assistant" or (train_on == "last" and n == last))
        for n, message in enumerate(messages)
    ]
    template = tokenizer.template
    return _encode(_LAYOUTS[template.name](messages, template, trained, add_generation_prompt), tokenizer)


def answer_ids(answer: str, tokenizer: Tokenizer, *, ended: bool = True) -> tuple[int, ...]:
    """Ids of one answer as they stand in `render` after any prompt: its text, and the end-of-turn token.

    `ended=False`: the answer was cut at a token limit, so it has no end-of-turn token (an empty one keeps it: there
    is always at least one id).
    """
    turns = (Message(role="user", content="?"), Message(role="assistant", content=answer))
    rendered = render(turns, tokenizer)
    ids = tuple(i for i, trained in zip(rendered.ids, rendered.loss_mask, strict=True) if trained)
    return ids if ended or len(ids) == 1 else ids[:-1]


def _encode(pieces: Sequence[_Piece], tokenizer: Tokenizer) -> Rendered:
    ids: list[int] = []
    mask: list[bool] = []
    roles: list[str] = []
    run: list[_Piece] = []
    for piece in [*pieces, None]:
        if piece is not None and not piece.control:
            run.append(piece)
            continue
        run_ids, run_mask, run_roles = _encode_run(run, tokenizer)
        ids, mask, roles, run = ids + run_ids, mask + run_mask, roles + run_roles, []
        if piece is not None:
            ids.append(tokenizer.special_ids[piece.text])
            mask.append(piece.trained)
            roles.append(piece.role)
    return Rendered(tuple(ids), tuple(mask), tuple(roles))


def _encode_run(run: Sequence[_Piece], tokenizer: Tokenizer) -> tuple[list[int], list[bool], list[str]]:
    """Text between two control tokens, encoded in one go as the native templates do, but for one case:
    an answer whose first characters would merge with the header before it is encoded on its own."""
    if not run:
        return [], [], []
    if run[-1].role != "assistant" or len(run) == 1:
        ids, roles = _encode_spans(run, tokenizer)
        return ids, [run[-1].trained] * len(ids) if len(run) == 1 else [False] * len(ids), roles
    head_ids, head_roles = _encode_spans(run[:-1], tokenizer)
    joint = tokenizer.encode("".join(piece.text for piece in run))
    merged = joint[: len(head_ids)] != head_ids
    answer_ids = tokenizer.encode(run[-1].text) if merged else joint[len(head_ids) :]
    num = len(answer_ids)
    mask = [False] * len(head_ids) + [run[-1].trained] * num
    return head_ids + answer_ids, mask, head_roles + ["assistant"] * num


def _encode_spans(run: Sequence[_Piece], tokenizer: Tokenizer) -> tuple[list[int], list[str]]:
    ids, ends = tokenizer.encode_with_ends("".join(piece.text for piece in run))
    roles: list[str] = []
    bounds: list[tuple[int, str]] = []
    end = 0
    for piece in run:
        end += len(piece.text)
        bounds.append((end, piece.role))
    for token_end in ends:
        roles.append(next((role for bound, role in bounds if token_end <= bound), run[-1].role))
    return ids, roles


# ---- the same layout as Jinja, for exported folders --------------------------------------------------------


def jinja(template: ChatTemplate) -> str:
    """A Jinja chat template that renders as `render` does, for transformers, vLLM and llama.cpp.

    It starts with a comment that `detect` reads back, so that nothing is lost where only the Jinja text travels (GGUF).
    """
    fields = json.dumps(template.to_dict()).replace("#", "\\u0023")
    comment = f"{{# {TEMPLATE_FIELD} {fields} #}}"
    system = f"<|im_start|>system\n{template.default_system}<|im_end|>\n" if template.default_system else ""
    values = {**vars(template), "system_turn": system}
    return comment + re.sub(r"@(\w+)@", lambda m: _quote(values[m[1]]), _JINJA[template.name])


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


_FOLD = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}{% endfor %}"
)
_JINJA: Mapping[TemplateName, str] = {
    "chatml": (
        "{% if messages[0]['role'] != 'system' %}{{ @system_turn@ }}{% endif %}"
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if loop.last and message['role'] == 'assistant' %}{{ @answer_prefix@ }}{% endif %}"
        "{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' + @answer_prefix@ }}{% endif %}"
    ),
    "llama3": (
        "{{ @bos@ }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{{ message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "gemma": _FOLD
    + (
        "{{ @bos@ }}{% for message in turns %}"
        "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' }}"
        "{% if loop.first %}{{ system }}{% endif %}{{ message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral": _FOLD
    + (
        "{{ @bos@ }}{% for message in turns %}{% if message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'] | trim + @end_of_turn@ }}{% else %}"
        "{{ '[INST] ' + (system if loop.first else '') + message['content'] + '[/INST]' }}{% endif %}{% endfor %}"
    ),
    "plain": (
        "{% for message in messages %}{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
        "{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant'}[message['role']] + ':\\n' }}"
        "{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ @end_of_turn@ }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n\\nAssistant:\\n' }}{% endif %}"
    ),
}
