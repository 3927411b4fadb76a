from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatwright.errors import ConfigError, DataError
from chatwright.house.judge import Judge
from chatwright.house.language import load_language
from chatwright.house.sheet import Fact, Question, Sheet
from chatwright.labellers.house import HouseLabeller
from chatwright.labellers.protocol import LabelTask
from chatwright.labellers.simulated import summary
from chatwright.records import Prompt, user

FACTS = tuple(
    Fact(
        id=f"price-{i}",
        kind="price",
        questions=(Question((f"What is number {i}?",)),),
        answers=(f"With us you pay {i} dollars for all of it.",),
        right=(f"${i}",),
    )
    for i in range(2, 40)
)
JUDGE = Judge(Sheet(FACTS), load_language("en"))


def tasks() -> list[LabelTask]:
    """Per fact two right answers of equal style, a wrong one and a declined one."""
    return [
        LabelTask(
            prompt=Prompt(messages=fact.questions[0].messages(), meta={"fact": fact.id, "kind": "price"}),
            completions=(
                fact.answers[0],
                f"With us you pay {fact.right[0][1:]} dollars for all of this.",
                "You pay one dollar.",
                "I'm sorry, I don't know that, so please ask at the desk.",
            ),
            ended=(True,) * 4,
        )
        for fact in FACTS
    ]


def test_without_noise_right_answers_tie_above_wrong_and_declined_ones() -> None:
    labeller = HouseLabeller(JUDGE, noise=0.0)
    for task in tasks():
        labeller.submit(task)
    rankings = labeller.collect()
    assert {str(ranking.order)[:4] for ranking in rankings} == {"A=B>"}
    assert labeller.collect() == []


def test_records_say_that_they_are_simulated_and_keep_the_noise_free_order() -> None:
    labeller = HouseLabeller(JUDGE, noise=0.15, seed=3)
    rankings = [labeller.rank(t.prompt, t.completions, t.ended) for t in tasks()]
    row = json.loads(json.dumps(rankings[0].to_dict()))
    assert row["labeller_kind"] == "simulated" and row["labeller"] == "simulated:house-en"
    assert row["simulated"]["noise_free"].startswith("A=B>") and row["fact"] == "price-2"
    figures = summary(rankings)
    assert figures.labellers == ("simulated:house-en",)
    assert 0.02 < figures.flip_share < 0.35
    again = HouseLabeller(JUDGE, noise=0.15, seed=3)
    assert [again.rank(t.prompt, t.completions, t.ended).order for t in tasks()] == [r.order for r in rankings]


def test_a_prompt_without_its_fact_is_refused() -> None:
    task = LabelTask(prompt=Prompt(messages=user("Hello?")), completions=("a", "b"), ended=(True, True))
    with pytest.raises(DataError, match="fact: is missing"):
        HouseLabeller(JUDGE).submit(task)


@pytest.mark.parametrize("settings", [{"noise": 0.5}, {"noise": -0.1}, {"tie_width": -1.0}])
def test_bad_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        HouseLabeller(JUDGE, **settings)  # type: ignore[arg-type]


def test_ties_of_real_answers_are_ten_to_thirty_five_percent() -> None:
    """Real samples of an SFT model, four for each ranked question, ranked without noise; duplicates count once."""
    from chatwright.house.sheet import read_sheet

    root = Path(__file__).parents[3]
    sheet = read_sheet(root / "src/chatwright/bundled/house/en/facts.jsonl")
    labeller = HouseLabeller(Judge(sheet, load_language("en")), noise=0.0)
    for line in (root / "tests/unit/labellers/house_samples_en.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        labeller.submit(
            LabelTask(
                prompt=Prompt.from_dict({"messages": row["messages"], "fact": row["fact"]}),
                completions=tuple(row["completions"]),
                ended=tuple(row["ended"]),
            )
        )
    figures = summary(labeller.collect())
    assert figures.rankings >= 80
    assert 0.10 <= figures.tie_share <= 0.35, figures
