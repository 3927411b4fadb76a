"""Dropout by bits against its definition."""

from __future__ import annotations

import pytest
import torch

from chatwright.kernels.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9, 0.999])
def test_share_of_zeros_and_scale(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((333, 601), 3.0, dtype=torch.bfloat16)
    out = dropout(x, p, training=True)
    dropped = out == 0
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float(dropped.double().mean()) - p) < 5 * deviation
    expected = torch.tensor(3.0, dtype=torch.bfloat16).mul(1 / (1 - p))
    assert torch.equal(out[~dropped].unique(), expected[None])


def test_neighbours_are_dropped_independently() -> None:
    """Four elements share a draw: no pair of them may be dropped together more often than p squared."""
    torch.manual_seed(1)
    p, num = 0.3, 400_000
    dropped = (dropout(torch.ones(num, 4, dtype=torch.bfloat16), p, training=True) == 0).double()
    together = dropped.T @ dropped / num
    expected = torch.full((4, 4), p * p).double().fill_diagonal_(p)
    torch.testing.assert_close(together, expected, atol=0.005, rtol=0)


def test_gradient_has_the_mask_and_the_scale_of_the_output() -> None:
    torch.manual_seed(2)
    x = torch.ones(7, 5, 3, dtype=torch.bfloat16).transpose(0, 2).requires_grad_()
    out = dropout(x, 0.25, training=True)
    out.backward(torch.ones(3, 5, 7, dtype=torch.bfloat16))
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())
    assert 0 < int((out == 0).sum()) < out.numel()


def test_same_seed_same_mask_and_other_draws_other_masks() -> None:
    x = torch.ones(64, 64, dtype=torch.bfloat16)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5, training=True), dropout(x, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, training=True), first)
    assert not torch.equal(first, second)


def test_nothing_happens_outside_training() -> None:
    x = torch.randn(8, 8).bfloat16()
    layer = Dropout(0.5).eval()
    assert layer(x) is x
    assert torch.equal(dropout(x, 0.0, training=True), x)


def test_nan_is_kept_or_dropped_but_never_spread() -> None:
    torch.manual_seed(4)
    x = torch.ones(100, dtype=torch.bfloat16)
    x[::2] = float("nan")
    out = dropout(x, 0.5, training=True)
    assert not out[1::2].isnan().any()
    assert out[::2].isnan().any()
    assert torch.equal(out[::2][~out[::2].isnan()].unique(), torch.zeros(1, dtype=torch.bfloat16))
