"""The layouts of the chat templates known by name: a conversation -> control tokens and spoken text, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chatwright.errors import TemplateError
from chatwright.records import Message
from chatwright.text.chat_template import ChatTemplate, TemplateName


@dataclass(frozen=True, slots=True)
class Piece:
    """A control token, or text spoken by a role."""

    text: str
    role: str
    control: bool = False
    trained: bool = False
    answer: bool = False
    """An answer begins here: its tokens never depend on the text before."""


def _header(text: str) -> Piece:
    return Piece(text, "control")


def _control(token: str, trained: bool = False) -> Piece:
    return Piece(token, "control", control=True, trained=trained)


def _answer(message: Message, text: str, trained: bool) -> Piece:
    return Piece(text, message.role, trained=trained, answer=message.role == "assistant")


def _chatml(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[Piece]:
    pieces: list[Piece] = []
    if template.default_system and messages[0].role != "system":
        system = Message(role="system", content=template.default_system)
        messages, trained = [system, *messages], [False, *trained]
    for n, (message, train) in enumerate(zip(messages, trained, strict=True)):
        if message.role == "tool" and template.tool_turns == "qwen":
            pieces += _qwen_tool_result(messages, n)
            continue
        text = _thought_and_calls(message)
        last_answer = message.role == "assistant" and n == len(messages) - 1
        prefix = template.answer_prefix if last_answer and not text.startswith("<think>") else ""
        pieces += [_control("<|im_start|>"), _header(f"{message.role}\n{prefix}"),
                   _answer(message, text, train), _control("<|im_end|>", train), _header("\n")]  # fmt: skip
    if ask:
        pieces += [_control("<|im_start|>"), _header(f"assistant\n{template.answer_prefix}")]
    return pieces


def _thought_and_calls(message: Message) -> str:
    """Text of an assistant's message, thought and tool calls as Qwen and Hermes write them."""
    text = f"<think>\n{message.reasoning_content}\n</think>\n\n" if message.reasoning_content else ""
    text += message.content
    for call in message.tool_calls:
        line = json.dumps({"name": call.name, "arguments": json.loads(call.arguments)}, ensure_ascii=False)
        gap = "\n" if text else ""
        text += f"{gap}<tool_call>\n{line}\n</tool_call>"
    return text


def _qwen_tool_result(messages: Sequence[Message], n: int) -> list[Piece]:
    """A result in the user's turn; results that follow one another share it."""
    first = n == 0 or messages[n - 1].role != "tool"
    last = n + 1 == len(messages) or messages[n + 1].role != "tool"
    begin = [_control("<|im_start|>"), _header("user")] if first else []
    end = [_control("<|im_end|>"), _header("\n")] if last else []
    result = _answer(messages[n], messages[n].content, False)
    return [*begin, _header("\n<tool_response>\n"), result, _header("\n</tool_response>"), *end]


def _llama3(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[Piece]:
    def header(role: str) -> list[Piece]:
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


def _gemma(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[Piece]:
    system, turns = _fold_system(messages, "gemma")
    pieces = [_control(template.bos)]
    for n, (message, train) in enumerate(zip(turns, trained[len(messages) - len(turns) :], strict=True)):
        role = "model" if message.role == "assistant" else "user"
        pieces += [_control("<start_of_turn>"), _header(f"{role}\n")]
        pieces += [Piece(system, "system")] if system and n == 0 else []
        # The native template trims every message.
        pieces += [_answer(message, message.content.strip(), train), _control("<end_of_turn>", train), _header("\n")]
    return pieces + ([_control("<start_of_turn>"), _header("model\n")] if ask else [])


def _mistral(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[Piece]:
    del ask  # [/INST] already asks.
    system, turns = _fold_system(messages, "mistral")
    pieces = [_control(template.bos)]
    for n, (message, train) in enumerate(zip(turns, trained[len(messages) - len(turns) :], strict=True)):
        if message.role == "assistant":
            pieces += [_answer(message, " " + message.content.strip(), train), _control(template.end_of_turn, train)]
            continue
        pieces += [_control("[INST]"), _header(" ")]
        pieces += [Piece(system, "system")] if system and n == 0 else []
        pieces += [_answer(message, message.content, False), _control("[/INST]")]
    return pieces


_PLAIN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


def _plain(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[Piece]:
    """The answer starts on its own line, so what is generated is the answer itself, with no leading blank."""
    pieces: list[Piece] = []
    for n, (message, train) in enumerate(zip(messages, trained, strict=True)):
        if message.role not in _PLAIN_NAMES:
            raise TemplateError(f"the plain chat template has no {message.role} turn")
        gap = "\n\n" if n else ""
        pieces += [_header(f"{gap}{_PLAIN_NAMES[message.role]}:\n"), _answer(message, message.content, train)]
        pieces += [_control(template.end_of_turn, train)] if message.role == "assistant" else []
    return pieces + ([_header("\n\nAssistant:\n")] if ask else [])


_Layout = Callable[[Sequence[Message], ChatTemplate, Sequence[bool], bool], list[Piece]]
_LAYOUTS: Mapping[TemplateName, _Layout] = {
    "chatml": _chatml,
    "llama3": _llama3,
    "gemma": _gemma,
    "mistral": _mistral,
    "plain": _plain,
}


def lay_out(messages: Sequence[Message], template: ChatTemplate, trained: Sequence[bool], ask: bool) -> list[Piece]:
    """The pieces of a conversation. `trained`: per message; `ask`: whether an answer's header follows.

    Raises TemplateError when the layout has no form for the conversation.
    """
    if template.name != "chatml" and any(message.tool_calls or message.reasoning_content for message in messages):
        raise TemplateError(f"the {template.name} chat template has no form for thoughts and tool calls")
    return _LAYOUTS[template.name](messages, template, trained, ask)
