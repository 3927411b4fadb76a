"""Shared parts of the readers of foreign rows: results, and the checks under which turns become a record.

A reader takes (row, place) and returns records and `LeftOut` values; a DataError is a damaged row. Fields that a
reader does not
know stay in the record. The `source` field says which format a record came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatwright.jsonl import Where
from chatwright.records import MAX_K, MIN_K, Demonstration, LabelledAnswer, Prompt, Ranking, Samples, WeakOrder


@dataclass(frozen=True)
class LeftOut:
    """A row, or a part of one, that is sound but of no use here."""

    reason: str


Record = Prompt | Demonstration | Ranking | LabelledAnswer | Samples
Found = list[Record | LeftOut]
Turns = list[dict[str, str]]
EQUAL = "both answers are equal"
EQUAL_APART = "equal answers are ranked one above the other"


def other_fields(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """The fields of a row that are not named in `used`."""
    return {name: value for name, value in row.items() if name not in used}


def turn(role: str, content: str) -> dict[str, str]:
    """A message as it stands in our rows."""
    return {"role": role, "content": content}


def conversation_record(turns: Turns, rest: Mapping[str, Any], source: str, where: Where) -> Found:
    """A demonstration when the assistant speaks last, a prompt when the user does."""
    if (problem := problem_of(turns)) is not None:
        return [LeftOut(problem)]
    row = {"messages": turns, "source": source, **rest}
    if turns[-1]["role"] == "assistant":
        return [Demonstration.from_dict(row, where)]
    return [Prompt.from_dict(row, where)]


def pair_record(turns: Turns, chosen: str, rejected: str, rest: Mapping[str, Any], source: str, where: Where) -> Found:
    """A ranking A>B of two answers to one conversation."""
    return ranked_record(turns, [chosen, rejected], [1, 2], rest, source, where)


def ranked_record(
    turns: Turns, answers: Sequence[str], ranks: Sequence[float | None], rest: Mapping[str, Any], source: str, where: Where
) -> Found:
    """A ranking of answers; `ranks`: lower is better, equal numbers tie, None is unranked. Of more than nine, the
    nine best."""
    if (problem := question_problem(turns)) is not None:
        return [LeftOut(problem)]
    best = sorted(range(len(answers)), key=lambda i: (ranks[i] is None, ranks[i] or 0))[:MAX_K]
    kept = sorted(best)
    found: Found = [LeftOut(f"an answer beyond the {MAX_K} best")] * (len(answers) - len(kept))
    if sum(ranks[i] is not None for i in kept) < MIN_K:
        return [*found, *samples_record(turns, [answers[i] for i in kept], rest, source, where)]
    order = WeakOrder.from_ranks([ranks[i] for i in kept])
    row = {
        "messages": turns, "completions": [answers[i] for i in kept], "ranking": str(order),
        "unranked": list(order.unranked), "source": source, **rest,
    }  # fmt: skip
    ranking = Ranking.from_dict(row, where)
    if ranking.equal_apart:
        return [*found, LeftOut(EQUAL if len(kept) == MIN_K else EQUAL_APART)]
    return [*found, ranking]


def samples_record(turns: Turns, answers: Sequence[str], rest: Mapping[str, Any], source: str, where: Where) -> Found:
    """Answers that wait for a ranking."""
    if (problem := question_problem(turns)) is not None:
        return [LeftOut(problem)]
    return [Samples.from_dict({"messages": turns, "completions": list(answers), "source": source, **rest}, where)]


def problem_of(turns: Turns) -> str | None:
    """Why turns are no conversation to learn from; None: they are one."""
    spoken = [t for t in turns if t["role"] != "system"]
    if not spoken:
        return "no message"
    if spoken[0]["role"] == "assistant":
        return "the conversation starts with the assistant"
    if any(not t["content"].strip() for t in turns):
        return "an empty message"
    return None


def question_problem(turns: Turns) -> str | None:
    """Why turns are nothing to answer; None: they are."""
    if (problem := problem_of(turns)) is not None:
        return problem
    return "the prompt ends with the assistant" if turns[-1]["role"] == "assistant" else None


_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def hh_turns(text: str, where: Where, name: str) -> Turns:
    """The turns of HH-RLHF's text form."""
    parts = _HH_TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
    if parts[0].strip() or len(parts) < 3:
        raise where.error(name, 'must be "\\n\\nHuman: ...\\n\\nAssistant: ..."')
    turns: Turns = []
    for speaker, content in zip(parts[1::2], parts[2::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1]["role"] == role:  # a person who wrote twice in a row
            turns[-1]["content"] += "\n\n" + content.strip()
        else:
            turns.append(turn(role, content.strip()))
    return turns
