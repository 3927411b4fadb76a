"""Conversations as ChatML text: `<|im_start|>user`, a line break, the content, `<|im_end|>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chatwright.data.importers.base import Found, LeftOut, Turns, conversation_record, turn
from chatwright.jsonl import Where
from chatwright.records import Conversation

START, END = "<|im_start|>", "<|im_end|>"
_TURN = re.compile(re.escape(START) + r"(\w+)\n(.*?)" + re.escape(END) + r"\n?", re.DOTALL)


def chatml_text(messages: Conversation) -> str:
    """The text of a conversation; the contents hold neither mark."""
    return "".join(f"{START}{message.role}\n{message.content}{END}\n" for message in messages)


def chatml_row(row: Mapping[str, Any], where: Where) -> Found:
    """`{"text": ...}`; the opening of an answer that is still to come, at the end of a prompt, is dropped."""
    text = where.text(row.get("text"), "text").removesuffix(f"{START}assistant\n").removesuffix(f"{START}assistant")
    turns: Turns = []
    at = 0
    while at < len(text.rstrip()):
        match = _TURN.match(text, at)
        if match is None:
            raise where.error("text", f"is not ChatML at character {at}: a turn is {START}role, a line break, ... {END}")
        if START in match[2]:
            raise where.error("text", f"has a turn at character {at} that does not end with {END}")
        if match[1] not in ("system", "user", "assistant"):
            return [LeftOut("uses tools" if match[1] == "tool" else f"has a speaker {match[1]}")]
        turns.append(turn(match[1], match[2]))
        at = match.end()
    return conversation_record(turns, {name: value for name, value in row.items() if name != "text"}, "chatml", where)
