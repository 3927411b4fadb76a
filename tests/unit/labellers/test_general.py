"""What the general rubric likes and what it does not."""

from __future__ import annotations

import pytest

from chatwright.labellers.general import GeneralRubric, content_words
from chatwright.labellers.protocol import LabelTask
from chatwright.labellers.rubric import Item, gold_judge
from chatwright.labellers.simulated import SimulatedLabeller
from chatwright.records import Prompt, user

QUESTION = "Why do my tires always go flat in the winter?"
GOOD = "Cold air takes less room, so the pressure in your tires drops in winter. Fill flat tires and check them monthly."
WORSE = {
    "opening": f"Sure! {GOOD}",
    "as an AI": f"As an AI language model, I can help. {GOOD}",
    "long": GOOD + " " + " ".join(f"Tyre number {n} may behave in its own way, item {n}." for n in range(14)),
    "off topic": "A whale is a mammal that lives in the sea. It breathes air with lungs, and it feeds its young with milk.",
    "repeats": f"{GOOD} {GOOD}",
    "asks back": f"{GOOD} Does that help you?",
    "another role": f"{GOOD}\nUser: thanks",
    "empty": "",
}


def total(answer: str, *, ended: bool = True) -> float:
    return GeneralRubric().score(Item(prompt=QUESTION, answer=answer, keywords=(), ended=ended)).total


@pytest.mark.parametrize("name", WORSE)
def test_faults_cost(name: str) -> None:
    assert total(GOOD) > 0.95 and total(WORSE[name]) < total(GOOD) - 0.05


def test_an_answer_that_was_cut_off_is_worse() -> None:
    assert total(GOOD, ended=False) < 0.65 * total(GOOD)


def test_parts_and_weights() -> None:
    rubric = GeneralRubric()
    assert sum(rubric.weights.values()) == pytest.approx(1.0)
    parts = rubric.score(Item(prompt=QUESTION, answer=GOOD, keywords=(), ended=True)).parts
    assert set(parts) == {*rubric.weights, *rubric.gates} and all(0 <= part <= 1 for part in parts.values())
    assert content_words(QUESTION) == ["tires", "flat", "winter"]


def test_it_ranks_prompts_without_key_words() -> None:
    labeller = SimulatedLabeller(GeneralRubric(), noise=0.0, tie_width=0.05)
    task = LabelTask(prompt=Prompt(messages=user(QUESTION)), completions=("", GOOD, f"Sure! {GOOD}"), ended=(True,) * 3)
    labeller.submit(task)
    (ranking,) = labeller.collect()
    assert str(ranking.order) == "B>C>A" and ranking.labeller == "simulated:general-en"


def test_it_judges_evaluations() -> None:
    from chatwright.evals.harness import Answer

    judge = gold_judge(GeneralRubric())
    assert judge(Prompt(messages=user(QUESTION)), Answer(text=GOOD, ended=True)).total == total(GOOD)
