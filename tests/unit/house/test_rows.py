from __future__ import annotations

from collections import Counter

import pytest

from chatwright.errors import DataError
from chatwright.house.rows import demonstrations, prompts
from chatwright.house.sheet import Fact, Question
from chatwright.house.split import HouseQuestion

FACT = Fact(
    id="open",
    kind="hours",
    questions=(Question(("When?",)), Question(("Do you open?", "Yes.", "When?")), Question(("Hour?",))),
    answers=("At ten.", "We open at ten."),
    right=("10 am",),
)
ASKED = [HouseQuestion(FACT, question) for question in FACT.questions]


def test_answers_of_a_fact_take_turns() -> None:
    rows = demonstrations(ASKED)
    assert [row.messages[-1].content for row in rows] == ["At ten.", "We open at ten.", "At ten."]
    assert [[m.role for m in row.messages] for row in rows][1] == ["user", "assistant", "user", "assistant"]
    assert Counter(row.meta["fact"] for row in rows) == {"open": 3}


def test_prompts_end_with_the_visitor_and_name_their_fact() -> None:
    rows = [prompt.to_dict() for prompt in prompts(ASKED)]
    assert all(row["messages"][-1]["role"] == "user" and row["fact"] == "open" and row["kind"] == "hours" for row in rows)


def test_a_fact_without_answers_cannot_be_taught() -> None:
    fact = Fact(id="u", kind="unknown", questions=FACT.questions, answers=())
    with pytest.raises(DataError, match="no answer"):
        demonstrations([HouseQuestion(fact, fact.questions[0])])
