"""The sampler: its distribution, its limits, and that rows do not see one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from chatwright.generation.sampling import RowSettings, Workspace, greedy, invert, sample, uniforms


def rows(count: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> RowSettings:
    return RowSettings.of([temperature] * count, [top_k] * count, [top_p] * count)


def draw(logits: torch.Tensor, count: int, **limits: float) -> torch.Tensor:
    """`count` tokens drawn from the same logits."""
    uniform_B = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    tokens_B, _ = sample(logits.expand(count, -1), uniform_B, rows(count, **limits))  # type: ignore[arg-type]
    return tokens_B


def expected(logits: torch.Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
    """The distribution by its definition, token by token."""
    probs = torch.softmax(logits.double() / temperature, -1)
    order = probs.argsort(descending=True)
    if top_k:
        probs[order[top_k:]] = 0
    total, before = probs.sum(), 0.0
    for token in order.tolist():
        if before >= top_p * total:
            probs[token] = 0
        before += float(probs[token])
    return probs / probs.sum()


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.7},
        {"top_k": 5},
        {"top_p": 0.6},
        {"temperature": 0.8, "top_k": 9, "top_p": 0.7},
    ],
)
@pytest.mark.parametrize("vocab", [11, 700])
def test_distribution(limits: dict[str, float], vocab: int) -> None:
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(vocab)) * 1.5
    wanted = expected(logits, **limits)  # type: ignore[arg-type]
    count = 20_000
    seen = torch.bincount(draw(logits, count, **limits), minlength=vocab).double()
    assert seen[wanted == 0].sum() == 0, "drew what top-k or top-p excludes"
    common = wanted * count >= 5  # chi-square wants no tiny cells: the rest is one cell
    observed = torch.cat((seen[common], seen[~common].sum()[None]))
    hoped = torch.cat((wanted[common], wanted[~common].sum()[None])) * count
    if hoped[-1] == 0:
        observed, hoped = observed[:-1], hoped[:-1]
    assert chisquare(observed.numpy(), hoped.numpy()).pvalue > 1e-3


def test_logprobs_are_of_the_whole_distribution_at_the_temperature() -> None:
    logits = torch.randn(3, 50)
    tokens, logprobs = sample(logits, torch.full((3,), 0.5, dtype=torch.float64), rows(3, 0.5, top_k=2, top_p=0.9))
    wanted = torch.log_softmax(logits / 0.5, -1).gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(logprobs, wanted, rtol=1e-5, atol=1e-5)
    tokens, logprobs = sample(logits, torch.zeros(3, dtype=torch.float64), rows(3, 0.0))
    assert torch.equal(tokens, logits.argmax(-1))
    torch.testing.assert_close(logprobs, torch.log_softmax(logits, -1).amax(-1), rtol=1e-5, atol=1e-5)


def test_rows_with_settings_of_their_own() -> None:
    """Greedy, plain, top-k and top-p side by side give what each gives alone."""
    torch.manual_seed(3)
    logits, uniform = torch.randn(4, 600) * 2, torch.rand(4, dtype=torch.float64)
    temperatures, top_k, top_p = [0.0, 1.0, 0.7, 1.3], [0, 0, 3, 0], [1.0, 1.0, 1.0, 0.5]
    together, logprobs = sample(logits, uniform, RowSettings.of(temperatures, top_k, top_p))
    for n in range(4):
        one = RowSettings.of(temperatures[n : n + 1], top_k[n : n + 1], top_p[n : n + 1])
        token, logprob = sample(logits[n : n + 1], uniform[n : n + 1], one)
        assert token == together[n]
        assert logprob == logprobs[n]


def test_a_row_does_not_see_its_neighbours() -> None:
    torch.manual_seed(0)
    logits, uniform = torch.randn(5, 900), torch.rand(5, dtype=torch.float64)
    tokens, logprobs = sample(logits, uniform, rows(5))
    order = torch.tensor([3, 1, 4, 0, 2])
    again, logprobs_again = sample(logits[order], uniform[order], rows(5), Workspace())
    assert torch.equal(tokens[order], again) and torch.equal(logprobs[order], logprobs_again)


def test_a_nucleus_wider_than_the_first_try() -> None:
    """A flat distribution over 3,000 tokens: 90 % of it are 2,700 of them."""
    logits = torch.linspace(0, 1e-3, 3000)[None]
    settings_of_row = rows(1, top_p=0.9)
    kept = {int(sample(logits, torch.tensor([u], dtype=torch.float64), settings_of_row)[0]) for u in (0.0, 0.9999999)}
    assert kept == {3000 - 2700, 2999} or kept == {3000 - 2699, 2999}


def test_top_k_keeps_ties() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert set(draw(logits[0], 500, top_k=2).tolist()) == {0, 1, 2}
    assert set(draw(logits[0], 500, top_k=99).tolist()) == {0, 1, 2, 3}


def test_broken_logits_show_as_nan() -> None:
    logits = torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, 2.0]])
    _, logprobs = sample(logits, torch.full((2,), 0.3, dtype=torch.float64), rows(2))
    assert logprobs[0].isnan() and logprobs[1].isfinite()


def test_greedy_takes_the_first_of_equals() -> None:
    scores = torch.zeros(1, 1024)
    scores[0, [300, 301, 900]] = 5.0
    assert greedy(scores).tolist() == [300]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).filter(lambda w: sum(w) > 0),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 600),
)
def test_invert_is_the_inverse_of_the_cumulative_distribution(weights: list[float], uniform: float, shift: int) -> None:
    """Never a token without weight, and the right one up to rounding."""
    full = torch.zeros(1, 768)
    full[0, shift : shift + len(weights)] = torch.tensor(weights)
    token = int(invert(full, torch.tensor([uniform], dtype=torch.float64)))
    assert full[0, token] > 0
    cumulative = full[0].double().cumsum(0) / full[0].double().sum()
    before = float(cumulative[token - 1]) if token else 0.0
    assert before - 1e-6 <= uniform <= float(cumulative[token]) + 1e-6


def test_uniforms() -> None:
    def stream(seed: int = 1, ids: Sequence[int] = (5, 6), which: int = 0, count: int = 8) -> list[float]:
        return uniforms(seed, ids, which, count)

    assert stream() == stream() and stream(count=20)[:8] == stream()
    assert len({tuple(s) for s in (stream(), stream(seed=2), stream(ids=(56,)), stream(ids=(5,)), stream(which=1))}) == 5
    many = torch.tensor(uniforms(0, [1], 0, 20_000))
    assert many.min() >= 0 and many.max() < 1 and abs(many.mean() - 0.5) < 0.01
    assert chisquare(torch.histc(many, 20, 0, 1).numpy()).pvalue > 1e-3
