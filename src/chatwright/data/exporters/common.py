"""What all exporters share: their result, the pairs of a ranking, and the fields that go along.

An exporter takes one record and returns rows, reasons for what it could not write, and names of what its rows could not take
along. What is written must be read back by the importer of the same format: each refusal of an importer is one here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from chatwright.records import LETTERS, Conversation, Demonstration, Message, Prompt, Ranking

Record = Prompt | Demonstration | Ranking
Row = dict[str, Any]

NO_PROMPTS = "a prompt without an answer, which the format has no place for"
NO_DEMONSTRATIONS = "a demonstration, which the format has no place for"
NO_RANKINGS = "a ranking, which the format has no place for"
TIE = "a pair of tied answers (the format has only better and worse)"
UNRANKED = "an unranked answer"
_PER_ANSWER = ("completion_meta", "finish_reason", "finish_reasons")


@dataclass
class Written:
    """What became of one record."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Why something (the record, or one of its pairs) is not in the rows."""
    lost: list[str] = field(default_factory=list)
    """What is in the record and not in its rows."""


def turns(messages: Conversation) -> list[Row]:
    """Messages as role and content."""
    return [message.to_dict() for message in messages]


def problem(messages: Conversation, *, system: bool = True) -> str | None:
    """Why a conversation cannot be written to a format that has user and assistant (and `system`) turns; None: it can."""
    roles = [message.role for message in messages]
    if "tool" in roles:
        return "a conversation with tool messages"
    if "system" in roles and not system:
        return "a conversation with a system message, which the format has no place for"
    if any(not message.content.strip() for message in messages):
        return "a conversation with an empty message"
    spoken = [role for role in roles if role != "system"]
    if not spoken or spoken[0] != "user":
        return "a conversation that starts with the assistant"
    return None


def pairs_of(ranking: Ranking, written: Written) -> list[tuple[int, int]]:
    """(better, worse) of a ranking that a format of pairs can hold; the reasons for the others go to `written`."""
    found = []
    for i, j, relation in ranking.order.pairs():
        if relation == 0:
            written.left_out.append(TIE)
        elif ranking.completions[i].strip() == ranking.completions[j].strip():
            written.left_out.append("a pair of answers with the same text")
        else:
            found.append((i, j) if relation > 0 else (j, i))
    written.left_out += [UNRANKED] * len(ranking.order.unranked)
    return found


def extras(record: Record, written: Written, reserved: set[str], pair: tuple[int, int] | None = None) -> Row:
    """The record's other fields as columns of a row; per-answer fields are those of the two answers of `pair`.

    A field whose name the format uses for something else is lost, and named in `written`.
    """
    known = {"messages", "completions", "ranking", "unranked"}
    row = {name: value for name, value in record.to_dict().items() if name not in known}
    for name in sorted(reserved & set(row)):
        written.lost.append(f"the field {name}, a name that the format uses itself")
        del row[name]
    if pair is None or not isinstance(record, Ranking):
        return row
    if record.order.k > 2 and row.pop("uuid", None) is not None:
        written.lost.append("the uuid of a ranking of more than two answers")
    for name in ("likert", "flags", *_PER_ANSWER):
        if isinstance(row.get(name), list) and len(row[name]) == record.order.k:
            row[name] = [row[name][i] for i in pair]
    if record.shown_order is not None:
        row["shown_order"] = [LETTERS[pair.index(i)] for i in record.shown_order if i in pair]
    return row


def lost_fields(record: Record, written: Written, kept: Collection[str] = ()) -> None:
    """Name every field of a record beyond messages, answers and order as lost, except those `kept`."""
    basic = {"messages", "completions", "ranking", "unranked", *kept}
    written.lost += [f"the field {name}" for name in record.to_dict() if name not in basic]


def left_out(reason: str) -> Written:
    """A record of which nothing is written."""
    return Written(left_out=[reason])


def answered(messages: Conversation, answer: str) -> Conversation:
    """A conversation with the assistant's answer at its end."""
    return (*messages, Message(role="assistant", content=answer))
