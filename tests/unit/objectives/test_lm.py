"""The language-model loss: sums and counts, the shift by one, padding and packing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from chatwright.data.packing import best_fit, packed_batch
from chatwright.data.sft import Example, lm_batch
from chatwright.objectives.lm import batch_nll, mean_nll, token_nll

MODEL = tiny_models.tiny_model("llama")


def example(size: int, seed: int) -> Example:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 64, (size,), generator=generator).tolist()
    mask = (torch.rand(size, generator=generator) < 0.6).tolist()
    mask[-1] = True
    return Example(tuple(ids), tuple(mask))


@torch.no_grad()
def slow_nll(one: Example) -> tuple[float, int]:
    """Token by token: the state before a trained token predicts it."""
    logits = MODEL.logits(MODEL(torch.tensor([one.ids])))[0]
    total, count = 0.0, 0
    for t in range(1, len(one.ids)):
        if one.loss_mask[t]:
            total -= float(F.log_softmax(logits[t - 1], dim=-1)[one.ids[t]])
            count += 1
    return total, count


def test_token_nll_is_a_sum_with_its_count() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(5, 8), torch.randn(11, 8), torch.tensor([0, 3, 10, 3, 7])
    loss, count = token_nll(hidden, weight, targets)
    assert float(loss) == pytest.approx(float(F.cross_entropy(hidden @ weight.T, targets, reduction="sum")), rel=1e-5)
    assert float(count) == 5


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=4), st.integers(0, 100), st.sampled_from([0, 7]))
@torch.no_grad()
def test_padded_rows_give_the_sum_of_each_alone(sizes: list[int], seed: int, pad_id: int) -> None:
    examples = [example(size, seed + n) for n, size in enumerate(sizes)]
    loss, count = batch_nll(MODEL, lm_batch(examples, pad_id))
    alone = [slow_nll(one) for one in examples]
    assert float(loss) == pytest.approx(sum(total for total, _ in alone), rel=1e-4)
    assert float(count) == sum(number for _, number in alone)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=2, max_size=5), st.integers(0, 100))
@torch.no_grad()
def test_packed_rows_give_the_same_loss_as_unpacked(sizes: list[int], seed: int) -> None:
    """trl#805: examples in one row must not see one another."""
    examples = [example(size, seed + n) for n, size in enumerate(sizes)]
    packed = packed_batch(examples, best_fit([len(e.ids) for e in examples], 24), 0)
    (loss, count), (plain, number) = batch_nll(MODEL, packed), batch_nll(MODEL, lm_batch(examples, 0))
    assert float(loss) == pytest.approx(float(plain), rel=1e-4) and float(count) == float(number)


def test_mean_nll_divides_once_over_all_batches_and_restores_the_mode() -> None:
    batches = [lm_batch([example(size, size)], 0) for size in (3, 9)]
    alone = [slow_nll(example(size, size)) for size in (3, 9)]
    expected = sum(total for total, _ in alone) / sum(number for _, number in alone)
    MODEL.set_dropout(0.5)
    MODEL.train()
    try:
        assert mean_nll(MODEL, batches) == pytest.approx(expected, rel=1e-4)
        assert MODEL.training
    finally:
        MODEL.set_dropout(0.0)
        MODEL.eval()


def test_a_batch_of_padding_alone_gives_zero_not_nan() -> None:
    """nanochat#834."""
    nothing = lm_batch([Example((1, 2, 3), (False, False, False))], 0)
    loss, count = batch_nll(MODEL, nothing)
    loss.backward()
    assert loss.item() == 0.0 and count.item() == 0.0
    assert all(p.grad is None or not p.grad.isnan().any() for p in MODEL.parameters())
    MODEL.zero_grad(set_to_none=True)
    assert mean_nll(MODEL, [nothing]) == 0.0
