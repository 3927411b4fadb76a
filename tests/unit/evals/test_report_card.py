from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from chatwright.errors import DataError
from chatwright.evals.gate import gate
from chatwright.evals.report_card import card_text, kendall_tau_b, report_card
from chatwright.records import Ranking, WeakOrder, user
from chatwright.statistics.ties import relation_nll, relation_probabilities


def ranking(order: str, k: int, question: str = "q", **fields: object) -> Ranking:
    unranked = [letter for letter in "ABCDEFGHI"[:k] if letter not in order]
    parsed = WeakOrder.parse(order, k, unranked)
    return Ranking(messages=user(question), completions=tuple("abcdefghi"[:k]), order=parsed, **fields)  # type: ignore[arg-type]


def card(rankings: list[Ranking], scores: list[list[float]], lengths: list[list[float]] | None = None, **settings):  # type: ignore[no-untyped-def]
    settings = {"tie_mode": "davidson", "tie_param": 0.0, "draws": 200} | settings
    return report_card(rankings, scores, lengths or [[1.0] * len(row) for row in scores], **settings)


def synthetic(
    num: int, noise: float = 1.0, seed: int = 0
) -> tuple[list[Ranking], list[list[float]], list[list[float]]]:
    random = np.random.default_rng(seed)
    truth = random.normal(size=(num, 4))
    orders = [WeakOrder.from_scores(row.tolist(), 0.4) for row in truth]
    rankings = [
        Ranking(messages=user(f"q{n}"), completions=("a", "b", "c", "d"), order=order,
                labeller="ann" if n % 3 else "bo", meta={"use_case": "qa" if n % 2 else "chat"})
        for n, order in enumerate(orders)
    ]  # fmt: skip
    scores = (truth + noise * random.normal(size=truth.shape)).tolist()
    return rankings, scores, random.integers(10, 60, size=truth.shape).astype(float).tolist()


def test_accuracy_by_hand() -> None:
    # A>B=C: pairs AB right, AC right; second prompt: A>B equal scores count one half, unranked C makes no pair.
    found = card([ranking("A>B=C", 3, "1"), ranking("A>B", 3, "2")], [[2, 1, 0], [5, 5, 9]])
    assert found["accuracy"]["value"] == pytest.approx(2.5 / 3)
    assert (found["pairs"], found["strict_pairs"], found["prompts"]) == (4, 3, 2)
    assert found["tie_share"] == 0.25
    assert found["by_rank_distance"]["1"]["n"] == 3


def test_rank_distance_and_labellers() -> None:
    rankings = [ranking("A>B>C", 3, "1", labeller="ann"), ranking("A>B>C", 3, "2", labeller="bo")]
    found = card(rankings, [[3, 2, 1], [1, 2, 3]], train_labellers=["ann"])
    assert found["by_rank_distance"]["2"] == pytest.approx({"value": 0.5, "low": 0.0, "high": 1.0, "n": 2})
    assert found["by_labeller"]["ann"]["value"] == 1.0
    assert found["held_out_labellers"]["value"] == 0.0
    assert card(rankings, [[3, 2, 1]] * 2)["held_out_labellers"] is None
    assert card(rankings, [[3, 2, 1]] * 2, train_labellers=["ann", "bo"])["held_out_labellers"] is None


def test_use_case_and_source() -> None:
    rankings = [ranking("A>B", 2, "1", meta={"source": "x"}), ranking("A>B", 2, "2", meta={"source": "y"})]
    found = card(rankings, [[1, 0], [0, 1]])
    assert {name: figure["value"] for name, figure in found["by_source"].items()} == {"x": 1.0, "y": 0.0}
    assert "by_use_case" not in found


@given(st.lists(st.integers(1, 3), min_size=2, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_tau_b_equals_scipys(ranks: list[int], scores: list[int]) -> None:
    scores = scores[: len(ranks)]
    pairs = list(combinations(range(len(ranks)), 2))
    margins = np.array([float(scores[i] - scores[j]) for i, j in pairs])
    relations = np.array([(ranks[i] < ranks[j]) - (ranks[i] > ranks[j]) for i, j in pairs])
    theirs = stats.kendalltau([-rank for rank in ranks], scores, variant="b").statistic
    assert kendall_tau_b(margins, relations) == pytest.approx(theirs, nan_ok=True)


def test_tau_is_the_mean_over_rankings() -> None:
    found = card([ranking("A>B>C", 3, "1"), ranking("A>B>C", 3, "2")], [[3, 2, 1], [1, 2, 3]])
    assert found["kendall_tau_b"]["value"] == 0.0


def test_tie_nll_is_the_mean_over_all_pairs() -> None:
    found = card([ranking("A=B>C", 3)], [[1.0, 0.5, -1.0]], tie_param=-0.3)
    expected = relation_nll(np.array([0.5, 2.0, 1.5]), np.array([0, 1, 1]), "davidson", -0.3).mean()
    assert found["tie_nll"]["value"] == pytest.approx(expected)


def test_tie_calibration_of_a_true_model() -> None:
    random = np.random.default_rng(1)
    rankings, scores = [], []
    for n in range(1500):
        d = random.normal(scale=2)
        weights = np.exp([d / 2, np.log(0.8), -d / 2])
        relation = random.choice(["A>B", "A=B", "B>A"], p=weights / weights.sum())
        rankings.append(ranking(relation, 2, f"q{n}"))
        scores.append([d, 0.0])
    found = card(rankings, scores, tie_param=float(np.log(0.8)))
    ties = found["tie_calibration"]
    assert ties["predicted"] == pytest.approx(ties["observed"], abs=0.03)
    assert ties["error"] < 0.05
    assert sum(b["n"] for b in ties["bins"]) == 1500
    # Given that it is no tie, Davidson's win probability is sigmoid(d): the margins are calibrated too.
    assert found["ece"] < 0.05
    assert card(rankings, [[9 * a, b] for a, b in scores])["ece"] > 0.08, "over-confident margins show"


def test_ece_by_hand() -> None:
    d = float(np.log(3))  # sigmoid(d) = 0.75
    found = card([ranking("A>B", 2, "1"), ranking("B>A", 2, "2")], [[d, 0.0], [d, 0.0]])
    assert found["ece"] == pytest.approx(0.25)
    assert found["calibration"] == [{"confidence": pytest.approx(0.75), "accuracy": 0.5, "n": 2}]


def test_length_baseline_and_slope() -> None:
    rankings = [ranking("A>B", 2, str(n)) for n in range(4)]
    lengths = [[5.0, 3.0], [3.0, 5.0], [3.0, 5.0], [4.0, 4.0]]
    found = card(rankings, [[2 * a, 2 * b] for a, b in lengths], lengths)
    assert found["longer_wins"] == 1.5 / 4
    assert found["length_baseline"] == 2.5 / 4
    assert found["length_slope"]["value"] == pytest.approx(2.0)
    assert found["length_slope"]["correlation"] == pytest.approx(1.0)
    assert card(rankings, [[1.0, 0.0]] * 4)["length_slope"]["value"] == 0.0, "equal lengths have no slope"


def test_slope_is_within_prompts() -> None:
    """Prompts that ask for longer answers and score higher do not make a slope."""
    rankings = [ranking("A>B", 2, str(n)) for n in range(10)]
    lengths = [[10.0 * n, 10.0 * n + 1] for n in range(10)]
    scores = [[100.0 * n, 100.0 * n] for n in range(10)]
    assert card(rankings, scores, lengths)["length_slope"]["value"] == pytest.approx(0.0)


def test_interval_draws_prompts_not_pairs() -> None:
    rankings, scores, lengths = synthetic(60)
    once = card(rankings, scores, lengths)["accuracy"]
    copied = card(rankings * 3, scores * 3, lengths * 3)["accuracy"]
    assert (once["low"], once["high"]) == (pytest.approx(copied["low"]), pytest.approx(copied["high"]))
    assert once == card(rankings, scores, lengths)["accuracy"]
    assert once["low"] < once["value"] < once["high"]


def test_gate() -> None:
    rankings, scores, lengths = synthetic(80)
    good = card(rankings, scores, lengths)
    assert good["gate"] is None and gate(good) is None
    bad = card(rankings, np.random.default_rng(9).normal(size=(80, 4)).tolist(), lengths)
    assert bad["gate"] == gate(bad)
    assert "length" in str(bad["gate"])
    few = card(rankings[:9], scores[:9], lengths[:9])
    assert "too few to tell: 9 held-out prompts" in str(few["gate"])


def test_the_same_prompt_in_other_blanks_and_case_counts_once() -> None:
    rankings = [ranking("A>B", 2, f"{' ' * n}Why {'is' if n % 2 else 'IS'} it\n") for n in range(12)]
    found = card(rankings, [[1.0, 0.0]] * 12)
    assert found["prompts"] == 1 and "too few to tell: 1 held-out prompts" in found["gate"]


def test_equal_answers_make_no_pair() -> None:
    """Case T07: their order cannot be got right, whatever the scores' rounding says."""
    texts = ("same", " same\n", "other")
    rows = [Ranking(messages=user(f"q{n}"), completions=texts, order=WeakOrder.parse("A>B>C", 3)) for n in range(12)]
    found = card(rows, [[1e-7, 0.0, -1.0]] * 12)
    assert (found["pairs"], found["equal_text_pairs"], found["accuracy"]["value"]) == (24, 12, 1.0)
    assert "12 pairs left out" in card_text(found)
    alike = [Ranking(messages=user("q"), completions=("x", "x"), order=WeakOrder.parse("A>B", 2))]
    with pytest.raises(DataError, match="no strict pair of different answers"):
        card(alike, [[1.0, 0.0]])
    cut = [Ranking(messages=user("q"), completions=("x", "x"), order=WeakOrder.parse("A>B", 2),
                   meta={"finish_reason": ["stop", "length"]})]  # fmt: skip
    assert card(cut, [[1.0, 0.0]])["pairs"] == 1


def test_constant_scores_close_the_gate() -> None:
    rankings, _, lengths = synthetic(40)
    assert "the same score" in card(rankings, [[0.5] * 4] * 40, lengths)["gate"]


@pytest.mark.parametrize("draws", [4000])
def test_ece_of_a_true_rao_kupper_model_is_small(draws: int) -> None:
    """sigmoid(d) is not the chance of winning where ties are Rao and Kupper's: it said 0.05 of a perfect model."""
    random, eta = np.random.default_rng(2), 0.8
    margins = random.normal(scale=2, size=draws)
    chances = relation_probabilities(margins, "rao_kupper", eta)
    drawn = [random.choice(["A>B", "A=B", "B>A"], p=row / row.sum()) for row in chances]
    rankings = [ranking(order, 2, f"q{n}") for n, order in enumerate(drawn)]
    found = card(rankings, [[d, 0.0] for d in margins], tie_mode="rao_kupper", tie_param=eta, draws=10)
    assert found["ece"] < 0.03


def test_a_card_is_json_and_its_text_names_everything() -> None:
    rankings, scores, lengths = synthetic(40)
    found = card(rankings, scores, lengths, train_labellers=["ann"], accuracy_ceiling=0.85)
    assert json.loads(json.dumps(found)) == found
    text = card_text(found)
    for word in ("accuracy", "length baseline", "ceiling", "held-out labellers", "distance 3", "labeller bo",
                 "use case qa", "tau-b", "tie NLL (davidson)", "ECE", "0.726", "gate"):  # fmt: skip
        assert word in text
    assert f"{found['accuracy']['value']:.3f}" in text


def test_bad_input() -> None:
    with pytest.raises(DataError, match="strict pair"):
        card([ranking("A=B", 2)], [[1, 0]])
    with pytest.raises(DataError, match="finite"):
        card([ranking("A>B", 2)], [[1, float("nan")]])
    with pytest.raises(DataError, match="2 finite"):
        card([ranking("A>B", 2)], [[1, 2, 3]])
    with pytest.raises(DataError, match="1 rankings, 0 scores"):
        card([ranking("A>B", 2)], [])
