"""PPO's pure functions against formulas written out as slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatwright.objectives import ppo
from chatwright.objectives.stats import masked_mean, masked_var, whiten

lengths_of = st.lists(st.integers(1, 7), min_size=1, max_size=5)
seeds = st.integers(0, 10_000)


def ragged(lengths: list[int], seed: int, num: int = 2) -> tuple[torch.Tensor, ...]:
    """Mask and `num` random tensors [B, T], garbage outside the mask included."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return (mask, *(torch.randn(mask.shape, generator=generator, dtype=torch.float64) for _ in range(num)))


# ---- reward ----------------------------------------------------------------------------------------------------------


@given(lengths_of, seeds)
def test_the_score_lands_on_the_last_token_and_nowhere_else(lengths: list[int], seed: int) -> None:
    """trl#3750 put it one slot later, on the first pad."""
    mask, logprob, reference = ragged(lengths, seed)
    score = torch.arange(1.0, len(lengths) + 1, dtype=torch.float64)
    reward = ppo.token_rewards(score, logprob, reference, mask, beta=0.1)
    for row, length in enumerate(lengths):
        for t in range(max(lengths)):
            kl = -0.1 * float(logprob[row, t] - reference[row, t]) if t < length else 0.0
            expected = kl + (float(score[row]) if t == length - 1 else 0.0)
            assert float(reward[row, t]) == pytest.approx(expected), (row, t)


def test_per_token_kl_is_never_clamped_at_zero() -> None:
    """alpaca_farm clamps it; a token that the reference likes better than the policy must earn a positive reward."""
    logprob, reference = torch.tensor([[-3.0, -1.0]]), torch.tensor([[-1.0, -3.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    reward = ppo.token_rewards(torch.zeros(1), logprob, reference, mask, beta=0.5)
    assert reward.tolist() == [[1.0, -1.0]]
    k1, k3 = ppo.k1_k3(logprob[:, 0], reference[:, 0])
    assert float(k1) == -2.0 and float(k3) == pytest.approx(math.exp(2) - 1 - 2)


def test_k3_is_never_negative_and_zero_for_equal_policies() -> None:
    generator = torch.Generator().manual_seed(1)
    logprob, reference = torch.randn(2, 100, generator=generator)
    assert all(float(ppo.k1_k3(a[None], b[None])[1]) >= 0 for a, b in zip(logprob, reference, strict=True))
    assert [float(value) for value in ppo.k1_k3(logprob, logprob)] == [0.0, 0.0]


def test_a_response_without_tokens_is_refused() -> None:
    zeros = torch.zeros(2, 3)
    mask = torch.tensor([[True, False, False], [False, False, False]])
    with pytest.raises(AssertionError, match="no tokens"):
        ppo.token_rewards(torch.ones(2), zeros, zeros, mask, beta=0.1)


@pytest.mark.parametrize(
    ("rule", "penalty", "expected"),
    [
        ("none", -1.0, [2.0, 3.0]),
        ("replace", -1.0, [2.0, -1.0]),
        ("subtract", -1.0, [2.0, 2.0]),
        ("subtract", 1.5, [2.0, 1.5]),
    ],
)
def test_eos_rule_punishes_only_answers_that_did_not_stop(rule: str, penalty: float, expected: list[float]) -> None:
    score, ended = torch.tensor([2.0, 3.0]), torch.tensor([True, False])
    assert ppo.apply_eos_rule(score, ended, rule, penalty).tolist() == expected


# ---- advantages ------------------------------------------------------------------------------------------------------


def slow_gae(
    reward: list[float], value: list[float], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """A_t = sum_k (gamma lam)^k delta_{t+k}, delta_t = r_t + gamma V_{t+1} - V_t, V after the end is 0."""
    T = len(reward)
    values = [*value, 0.0]
    deltas = [reward[t] + gamma * values[t + 1] - values[t] for t in range(T)]
    advantages = [sum((gamma * lam) ** k * deltas[t + k] for k in range(T - t)) for t in range(T)]
    return advantages, [a + v for a, v in zip(advantages, value, strict=True)]


@given(lengths_of, seeds, st.sampled_from([1.0, 0.9]), st.sampled_from([0.0, 0.95, 1.0]))
def test_gae_equals_the_sum_of_its_definition(lengths: list[int], seed: int, gamma: float, lam: float) -> None:
    mask, reward, value = ragged(lengths, seed)
    advantage, returns = ppo.gae(reward, value, mask, gamma, lam)
    for row, length in enumerate(lengths):
        expected = slow_gae(reward[row, :length].tolist(), value[row, :length].tolist(), gamma, lam)
        assert advantage[row, :length].tolist() == pytest.approx(expected[0])
        assert returns[row, :length].tolist() == pytest.approx(expected[1])
    assert not advantage[~mask].any() and not returns[~mask].any()


@given(lengths_of, seeds, st.sampled_from([1.0, 0.9]))
def test_gae_with_lambda_one_is_discounted_reward_to_go_minus_value(lengths: list[int], seed: int, gamma: float) -> None:
    mask, reward, value = ragged(lengths, seed)
    advantage, returns = ppo.gae(reward, value, mask, gamma, 1.0)
    for row, length in enumerate(lengths):
        for t in range(length):
            to_go = sum(gamma**k * float(reward[row, t + k]) for k in range(length - t))
            assert float(returns[row, t]) == pytest.approx(to_go)
            assert float(advantage[row, t]) == pytest.approx(to_go - float(value[row, t]))


@given(lengths_of, seeds)
def test_padding_changes_nothing(lengths: list[int], seed: int) -> None:
    mask, reward, value = ragged(lengths, seed)
    pad = lambda x, fill: torch.nn.functional.pad(x, (0, 3), value=fill)  # noqa: E731
    plain = ppo.gae(reward, value, mask, 1.0, 0.95)
    padded = ppo.gae(pad(reward, 9.0), pad(value, -7.0), pad(mask, False), 1.0, 0.95)
    for a, b in zip(plain, padded, strict=True):
        assert torch.equal(a * mask, (b * pad(mask, False))[:, : mask.shape[1]])


# ---- statistics ------------------------------------------------------------------------------------------------------


@given(lengths_of, seeds)
def test_whiten_is_masked_with_population_variance(lengths: list[int], seed: int) -> None:
    mask, values = ragged(lengths, seed, 1)
    inside = values[mask]
    mean = sum(inside.tolist()) / len(inside)
    variance = sum((x - mean) ** 2 for x in inside.tolist()) / len(inside)
    white = whiten(values, mask)
    assert white[mask].tolist() == pytest.approx([(x - mean) / math.sqrt(variance + 1e-8) for x in inside.tolist()])
    assert not white[~mask].any()
    assert torch.equal(white, ppo.whiten_advantages(values, mask))


@given(lengths_of, seeds)
def test_whiten_without_shift_keeps_the_mean(lengths: list[int], seed: int) -> None:
    mask, values = ragged(lengths, seed, 1)
    white = whiten(values, mask, shift_mean=False)
    assert float(masked_mean(white, mask)) == pytest.approx(float(masked_mean(values, mask)), abs=1e-9)
    if float(masked_var(values, mask)) > 1e-3:
        assert float(masked_var(white, mask)) == pytest.approx(1.0, rel=1e-4)


def test_statistics_of_nothing_and_of_constants_are_not_nan() -> None:
    """nanochat#834: a row of padding alone must not become NaN."""
    values, nothing = torch.randn(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    assert float(masked_mean(values, nothing)) == 0.0 and float(masked_var(values, nothing)) == 0.0
    assert not whiten(values, nothing).any()
    assert not whiten(torch.full((2, 3), 4.0), ~nothing).any()


# ---- losses ----------------------------------------------------------------------------------------------------------


def clipped_loss(new: list[float], old: list[float], advantage: list[float], clip: float) -> float:
    total = 0.0
    for n, o, a in zip(new, old, advantage, strict=True):
        rho = math.exp(n - o)
        total += max(-a * rho, -a * min(max(rho, 1 - clip), 1 + clip))
    return total


@given(seeds, st.sampled_from([0.1, 0.2, 1.0]))
def test_policy_loss_is_its_formula(seed: int, clip: float) -> None:
    new, old, advantage = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    terms = ppo.policy_loss(new, old, advantage, clip)
    assert float(terms.loss_sum) == pytest.approx(clipped_loss(new.tolist(), old.tolist(), advantage.tolist(), clip))
    assert float(terms.count) == 20
    ratio = (new - old).exp()
    clipped = ((ratio > 1 + clip) & (advantage > 0)) | ((ratio < 1 - clip) & (advantage < 0))
    assert float(terms.clipped_sum) == float(clipped.sum())
    assert float(terms.k3_sum) == pytest.approx(float((ratio - 1 - (new - old)).sum()))


@pytest.mark.parametrize("clip", [0.2, math.inf])
def test_at_the_first_update_the_gradient_is_the_policy_gradient(clip: float) -> None:
    """rho = 1: d loss / d log pi = -A, whatever the clip; with clip infinite it stays -A rho after that."""
    old, advantage = torch.randn(2, 30, generator=torch.Generator().manual_seed(3))
    new = old.clone().requires_grad_()
    ppo.policy_loss(new, old, advantage, clip).loss_sum.backward()
    assert torch.allclose(new.grad, -advantage)


def test_with_clip_infinite_the_gradient_is_importance_weighted() -> None:
    old, advantage, step = torch.randn(3, 30, generator=torch.Generator().manual_seed(4))
    new = (old + step).requires_grad_()
    ppo.policy_loss(new, old, advantage, math.inf).loss_sum.backward()
    assert torch.allclose(new.grad, -advantage * step.exp())


@given(seeds)
def test_value_loss_is_its_formula(seed: int) -> None:
    value, old, target = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    loss, count = ppo.value_loss(value, old, target, 0.2)
    expected = 0.0
    for v, o, r in zip(value.tolist(), old.tolist(), target.tolist(), strict=True):
        bounded = o + min(max(v - o, -0.2), 0.2)
        expected += 0.5 * max((v - r) ** 2, (bounded - r) ** 2)
    assert float(loss) == pytest.approx(expected) and float(count) == 20


# ---- KL controller ---------------------------------------------------------------------------------------------------


def test_a_fixed_controller_never_moves() -> None:
    fixed = ppo.KLController(beta=0.02)
    assert fixed.updated(1e9, 512) is fixed


@pytest.mark.parametrize(("kl", "error"), [(6.0, 0.0), (6.6, 0.1), (60.0, 0.2), (5.4, -0.1), (-3.0, -0.2)])
def test_the_adaptive_controller_is_zieglers(kl: float, error: float) -> None:
    moved = ppo.KLController(beta=0.1, target=6.0, horizon=1000).updated(kl, 50)
    assert moved.beta == pytest.approx(0.1 * (1 + error * 50 / 1000))
    assert (moved.target, moved.horizon) == (6.0, 1000)
