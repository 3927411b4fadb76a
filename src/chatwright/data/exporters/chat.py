"""TRL, HH-RLHF, ShareGPT, OpenAI fine-tuning and ChatML.

Formats of pairs get one row per strict pair of a ranking. Columns that TRL and ShareGPT do not know are ignored by their
readers, so labeller, ratings and the like go along; HH-RLHF, OpenAI and ChatML rows hold their own fields only.
"""

from __future__ import annotations

from collections.abc import Callable

from chatwright.data.exporters.common import (
    NO_DEMONSTRATIONS,
    NO_PROMPTS,
    NO_RANKINGS,
    Record,
    Row,
    Written,
    answered,
    extras,
    left_out,
    lost_fields,
    pairs_of,
    problem,
    turns,
)
from chatwright.data.importers.chatml import END, START, chatml_text
from chatwright.records import Conversation, Demonstration, Ranking

_TRL_NAMES = {
    "prompt", "chosen", "rejected", "completion", "label", "images", "image", "messages", "tools", "parallel_tool_calls",
    "preferred_output",
}  # fmt: skip
_SHAREGPT_NAMES = {"conversations", "system", "chosen", "rejected", "tools"}


# ---- TRL ---------------------------------------------------------------------------------------------------


def trl(record: Record) -> Written:
    """Conversational: `prompt`, `chosen`, `rejected` are lists of messages; `prompt` and `completion`; `prompt` only."""
    return _trl(record, _conversational)


def trl_implicit(record: Record) -> Written:
    """Conversational with the prompt inside `chosen` and `rejected`; demonstrations are `messages`."""
    return _trl(record, _implicit)


def trl_text(record: Record) -> Written:
    """Standard: `prompt`, `chosen`, `rejected` are plain texts, so only prompts of one user message fit."""
    if len(record.messages[:-1] if isinstance(record, Demonstration) else record.messages) != 1:
        return left_out("a conversation of more than one message before the answer (the plain-text form holds one)")
    return _trl(record, _text)


def _trl(record: Record, columns: Callable[[Conversation, tuple[str, ...]], Row | str]) -> Written:
    """`columns` makes a row of a prompt and no, one or two answers, or says why it cannot."""
    if (reason := problem(record.messages)) is not None:
        return left_out(reason)
    written = Written()
    if isinstance(record, Ranking):
        for pair in pairs_of(record, written):
            row = columns(record.messages, tuple(record.completions[i] for i in pair))
            if isinstance(row, str):
                written.left_out.append(row)
            else:
                written.rows.append(row | extras(record, written, _TRL_NAMES, pair))
        return written
    shown = (record.messages[:-1], (record.answer,)) if isinstance(record, Demonstration) else (record.messages, ())
    row = columns(*shown)
    if isinstance(row, str):
        return left_out(row)
    written.rows.append(row | extras(record, written, _TRL_NAMES))
    return written


def _conversational(prompt: Conversation, answers: tuple[str, ...]) -> Row | str:
    said = [[{"role": "assistant", "content": answer}] for answer in answers]
    return {"prompt": turns(prompt)} | dict(zip(_names(answers), said, strict=True))


def _implicit(prompt: Conversation, answers: tuple[str, ...]) -> Row | str:
    if not answers:
        return {"prompt": turns(prompt)}
    said = [turns(answered(prompt, answer)) for answer in answers]
    return {"messages": said[0]} if len(said) == 1 else {"chosen": said[0], "rejected": said[1]}


def _text(prompt: Conversation, answers: tuple[str, ...]) -> Row | str:
    asked = prompt[-1].content
    if len(answers) == 2 and all(answer.startswith(asked) for answer in answers):
        return "two answers that both begin with the prompt (readers would cut it off)"
    return {"prompt": asked} | dict(zip(_names(answers), answers, strict=True))


def _names(answers: tuple[str, ...]) -> tuple[str, ...]:
    return ("chosen", "rejected") if len(answers) == 2 else ("completion",) * len(answers)


# ---- HH-RLHF -----------------------------------------------------------------------------------------------


def hh(record: Record) -> Written:
    r"""`{"chosen": "\n\nHuman: ...\n\nAssistant: ...", "rejected": ...}`."""
    if not isinstance(record, Ranking):
        return left_out(NO_DEMONSTRATIONS if isinstance(record, Demonstration) else NO_PROMPTS)
    if (reason := problem(record.messages, system=False) or _hh_problem(record.messages)) is not None:
        return left_out(reason)
    written = Written()
    for pair in pairs_of(record, written):
        better, worse = (answered(record.messages, record.completions[i]) for i in pair)
        if (reason := _hh_problem(better) or _hh_problem(worse)) is not None:
            written.left_out.append(reason)
        else:
            written.rows.append({"chosen": _hh_text(better), "rejected": _hh_text(worse)})
    if written.rows:
        lost_fields(record, written)
    return written


def _hh_text(messages: Conversation) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[message.role]}: {message.content}" for message in messages)


def _hh_problem(messages: Conversation) -> str | None:
    if any(f"\n\n{name}:" in message.content for message in messages for name in ("Human", "Assistant")):
        return "a text with a speaker's name at the start of a paragraph, which would read as a turn"
    if any(one.role == other.role for one, other in zip(messages, messages[1:], strict=False)):
        return "a conversation with two turns of one speaker in a row"
    if any(message.content != message.content.strip() for message in messages):
        return "a text that begins or ends with white space, which the format drops"
    return None


# ---- ShareGPT ----------------------------------------------------------------------------------------------

_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def sharegpt(record: Record) -> Written:
    """`{"conversations": [{"from", "value"}, ...]}`, with `chosen` and `rejected` for a pair."""
    if (reason := problem(record.messages)) is not None:
        return left_out(reason)
    written = Written()
    said = [{"from": _SHAREGPT_ROLES[message.role], "value": message.content} for message in record.messages]
    if isinstance(record, Ranking):
        for pair in pairs_of(record, written):
            better, worse = ({"from": "gpt", "value": record.completions[i]} for i in pair)
            row: Row = {"conversations": said, "chosen": better, "rejected": worse}
            written.rows.append(row | extras(record, written, _SHAREGPT_NAMES, pair))
        return written
    written.rows.append({"conversations": said} | extras(record, written, _SHAREGPT_NAMES))
    return written


# ---- OpenAI ------------------------------------------------------------------------------------------------


def openai(record: Record) -> Written:
    """Fine-tuning: `{"messages": [...]}`; preference: `{"input", "preferred_output", "non_preferred_output"}`."""
    if (reason := problem(record.messages)) is not None:
        return left_out(reason)
    written = Written()
    if isinstance(record, Ranking):
        for pair in pairs_of(record, written):
            better, worse = ([{"role": "assistant", "content": record.completions[i]}] for i in pair)
            asked = {"messages": turns(record.messages)}
            written.rows.append({"input": asked, "preferred_output": better, "non_preferred_output": worse})
    elif isinstance(record, Demonstration):
        written.rows.append({"messages": turns(record.messages)})
    else:
        return left_out(NO_PROMPTS)
    if written.rows:
        lost_fields(record, written)
    return written


# ---- ChatML ------------------------------------------------------------------------------------------------


def chatml(record: Record) -> Written:
    """`{"text": "<|im_start|>user ... <|im_end|>"}`: the text a model of this template is trained on."""
    if isinstance(record, Ranking):
        return left_out(NO_RANKINGS)
    if (reason := problem(record.messages)) is not None:
        return left_out(reason)
    if any(mark in message.content for message in record.messages for mark in (START, END)):
        return left_out("a text that holds the marks of the template, which would read as a turn")
    written = Written(rows=[{"text": chatml_text(record.messages)}])
    lost_fields(record, written)
    return written
