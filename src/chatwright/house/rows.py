"""Rows that training and evaluation read: demonstrations of the taught part, prompts of the others."""

from __future__ import annotations

from collections.abc import Sequence

from chatwright.house.sheet import Fact
from chatwright.house.split import HouseQuestion
from chatwright.records import Demonstration, Message, Prompt


def demonstrations(taught: Sequence[HouseQuestion]) -> list[Demonstration]:
    """One demonstration per question; the answers of a fact take turns, so that each is shown about equally often.

    DataError when a fact has no answer, which only rows of the reserved kinds may lack.
    """
    turn: dict[str, int] = {}
    rows = []
    for entry in taught:
        index = turn.get(entry.fact.id, 0)
        turn[entry.fact.id] = index + 1
        answer = Message(role="assistant", content=_answer(entry.fact, index))
        rows.append(Demonstration(messages=(*entry.question.messages(), answer), meta=entry.prompt_meta()))
    return rows


def prompts(questions: Sequence[HouseQuestion]) -> list[Prompt]:
    """Prompts without answers; `meta` names the fact, by which the judge finds its forms."""
    return [Prompt(messages=entry.question.messages(), meta=entry.prompt_meta()) for entry in questions]


def _answer(fact: Fact, index: int) -> str:
    if not fact.answers:
        raise fact.where.error("answers", f"{fact.id!r} has questions to teach but no answer; write two or three")
    return fact.answers[index % len(fact.answers)]
