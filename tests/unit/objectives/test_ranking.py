"""Ranking losses against closed forms: Bradley-Terry, Rao-Kupper, Davidson, and equal weight per prompt."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from chatwright.objectives.dpo import dpo_loss
from chatwright.objectives.ranking import (
    PairNorm,
    TieMode,
    initial_tie_parameter,
    ranking_loss,
    relation_logprobs,
)

MODES: tuple[TieMode, ...] = ("drop", "soft", "rao_kupper", "davidson")
differences = st.floats(-30, 30, allow_nan=False)


def parameter(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def logprobs(d: float, mode: TieMode, tie: float = 0.0) -> list[float]:
    """Log-probabilities of first wins, tie, second wins."""
    difference = torch.tensor([d] * 3, dtype=torch.float64)
    return relation_logprobs(difference, torch.tensor([1, 0, -1]), mode, parameter(tie)).tolist()


def loss_of(
    scores: torch.Tensor,
    relations: list[tuple[int, int, int, int]],
    num_prompts: int = 1,
    mode: TieMode = "drop",
    norm: PairNorm = "k2",
    tie: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`relations`: (first, second, relation, prompt)."""
    first, second, relation, prompt = (torch.tensor(column) for column in zip(*relations, strict=True))
    return ranking_loss(
        scores, first, second, relation, prompt, num_prompts, mode=mode, pair_norm=norm, tie_parameter=tie
    )


@given(differences, st.sampled_from([1, -1]), st.sampled_from(["drop", "soft"]))
def test_two_answers_without_ties_are_bradley_terry(d: float, relation: int, mode: TieMode) -> None:
    scores = torch.tensor([d, 0.0], dtype=torch.float64)
    loss, count = loss_of(scores, [(0, 1, relation, 0)], mode=mode)
    assert float(loss) == pytest.approx(-float(F.logsigmoid(torch.tensor(relation * d, dtype=torch.float64))))
    assert float(count) == 1


@given(differences, st.floats(0.01, 20))
def test_rao_kupper_is_its_formula_and_a_distribution(d: float, eta: float) -> None:
    win, tie, loss = (math.exp(value) for value in logprobs(d, "rao_kupper", math.log(math.expm1(eta))))
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    assert win == pytest.approx(sigmoid(d - eta), rel=1e-6)
    assert tie == pytest.approx(math.expm1(2 * eta) * sigmoid(d - eta) * sigmoid(-d - eta), rel=1e-6)
    assert win + tie + loss == pytest.approx(1.0, abs=1e-9)


@given(differences, st.floats(-10, 10))
def test_davidson_is_its_formula_and_a_distribution(d: float, log_nu: float) -> None:
    win, tie, loss = (math.exp(value) for value in logprobs(d, "davidson", log_nu))
    total = math.exp(d / 2) + math.exp(-d / 2) + math.exp(log_nu)
    assert win == pytest.approx(math.exp(d / 2) / total)
    assert tie == pytest.approx(math.exp(log_nu) / total)
    assert win + tie + loss == pytest.approx(1.0)


@given(differences)
def test_davidson_without_ties_is_bradley_terry(d: float) -> None:
    assert logprobs(d, "davidson", -200.0)[0] == pytest.approx(logprobs(d, "drop")[0])


@given(differences)
def test_soft_tie_is_log_two_cosh_with_floor_log_two(d: float) -> None:
    tie = -logprobs(d, "soft")[1]
    assert tie == pytest.approx(math.log(2 * math.cosh(d / 2)))
    assert tie >= math.log(2) - 1e-12
    assert -logprobs(0.0, "soft")[1] == pytest.approx(math.log(2))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.7])
@pytest.mark.parametrize("mode", ["rao_kupper", "davidson"])
def test_initial_parameter_gives_the_tie_share_at_equal_scores(mode: TieMode, share: float) -> None:
    assert math.exp(logprobs(0.0, mode, initial_tie_parameter(mode, share))[1]) == pytest.approx(share)


@pytest.mark.parametrize("mode", ["rao_kupper", "davidson"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_initial_parameter_is_finite_without_ties_and_with_ties_alone(mode: TieMode, share: float) -> None:
    start = initial_tie_parameter(mode, share)
    tie = torch.tensor(start, requires_grad=True)
    loss, _ = loss_of(torch.zeros(2), [(0, 1, 1 if share == 0 else 0, 0)], mode=mode, tie=tie)
    loss.backward()
    assert math.isfinite(start) and bool(torch.isfinite(loss)) and bool(torch.isfinite(tie.grad))


@pytest.mark.parametrize("norm", ["k2", "retained"])
def test_an_all_tied_prompt_dropped_gives_zero_and_finite_gradients(norm: PairNorm) -> None:
    scores = torch.tensor([0.3, -2.0, 5.0], requires_grad=True)
    loss, count = loss_of(scores, [(0, 1, 0, 0), (0, 2, 0, 0), (1, 2, 0, 0)], norm=norm)
    loss.backward()
    assert loss.item() == 0.0 and count.item() == 1.0
    assert torch.equal(scores.grad, torch.zeros(3))


@pytest.mark.parametrize("mode", ["soft", "rao_kupper", "davidson"])
def test_an_all_tied_prompt_has_its_tie_term_which_pulls_the_scores_together(mode: TieMode) -> None:
    scores = torch.tensor([1.0, -1.0], requires_grad=True)
    loss, _ = loss_of(scores, [(0, 1, 0, 0)], mode=mode, tie=torch.tensor(0.0))
    loss.backward()
    assert float(loss.detach()) > 0 and scores.grad[0] > 0 > scores.grad[1]


@pytest.mark.parametrize("mode", MODES)
def test_extreme_scores_keep_loss_and_gradients_finite(mode: TieMode) -> None:
    scores = torch.tensor([300.0, -300.0, 0.0], requires_grad=True)
    tie = torch.tensor(0.5, requires_grad=True)
    loss, _ = loss_of(scores, [(0, 1, -1, 0), (0, 2, 0, 0), (1, 2, 1, 0)], mode=mode, tie=tie)
    loss.backward()
    assert bool(torch.isfinite(loss)) and bool(torch.isfinite(scores.grad).all())


def test_k2_divides_by_all_pairs_and_retained_by_the_strict_ones() -> None:
    scores = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)
    relations = [(0, 1, 0, 0), (0, 2, 1, 0), (1, 2, 1, 0)]
    strict = -float(F.logsigmoid(torch.tensor(2.0)) + F.logsigmoid(torch.tensor(1.5)))
    assert float(loss_of(scores, relations, norm="k2")[0]) == pytest.approx(strict / 3)
    assert float(loss_of(scores, relations, norm="retained")[0]) == pytest.approx(strict / 2)


@pytest.mark.parametrize("mode", ["soft", "davidson", "rao_kupper"])
def test_every_pair_is_retained_where_ties_have_a_term(mode: TieMode) -> None:
    scores = torch.tensor([1.0, 0.5, -1.0])
    relations = [(0, 1, 0, 0), (0, 2, 1, 0), (1, 2, 1, 0)]
    k2, retained = (loss_of(scores, relations, mode=mode, norm=n, tie=torch.tensor(0.0))[0] for n in ("k2", "retained"))
    assert float(k2) == pytest.approx(float(retained))


@pytest.mark.parametrize("mode", MODES)
def test_every_prompt_weighs_the_same_whatever_its_k(mode: TieMode) -> None:
    """9 answers make 36 pairs and 2 answers one, but a prompt's term is the mean over its own pairs."""
    torch.manual_seed(0)
    scores = torch.randn(11, dtype=torch.float64)
    tie = parameter(0.1)
    large = [(i, j, (i + j) % 3 - 1, 0) for i, j in itertools.combinations(range(9), 2)]
    small = [(9, 10, 1, 1)]
    both, count = loss_of(scores, large + small, 2, mode, tie=tie)
    alone = loss_of(scores, large, 1, mode, tie=tie)[0] + loss_of(scores, [(9, 10, 1, 0)], 1, mode, tie=tie)[0]
    assert float(both) == pytest.approx(float(alone)) and float(count) == 2
    terms = [relation_logprobs((scores[i] - scores[j])[None], torch.tensor([r]), mode, tie) for i, j, r, _ in large]
    first = loss_of(scores, large, 1, mode, tie=tie)[0]
    assert float(first) == pytest.approx(-float(torch.cat(terms).mean()))


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_the_order_in_which_a_pair_is_written_does_not_matter(mode: TieMode, data: st.DataObject) -> None:
    d, relation = data.draw(differences), data.draw(st.sampled_from([1, 0, -1]))
    scores, tie = torch.tensor([d, 0.0], dtype=torch.float64), parameter(0.3)
    forth = loss_of(scores, [(0, 1, relation, 0)], mode=mode, tie=tie)[0]
    back = loss_of(scores, [(1, 0, -relation, 0)], mode=mode, tie=tie)[0]
    assert float(forth) == pytest.approx(float(back))


@given(st.lists(differences, min_size=2, max_size=2), st.lists(differences, min_size=2, max_size=2))
def test_dpo_with_two_answers_and_no_tie_is_its_formula(logprob: list[float], reference: list[float]) -> None:
    beta = 0.1
    policy_A, reference_A = (torch.tensor(row, dtype=torch.float64) for row in (logprob, reference))
    index = torch.tensor([0])
    loss, count = dpo_loss(
        policy_A, reference_A, index, index + 1, torch.tensor([1]), index, 1, beta=beta, mode="drop"
    )
    margin = beta * ((logprob[0] - reference[0]) - (logprob[1] - reference[1]))
    assert float(loss) == pytest.approx(-float(F.logsigmoid(torch.tensor(margin, dtype=torch.float64))))
    assert float(count) == 1
