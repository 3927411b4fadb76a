"""Muon: orthogonal updates, each part of a stacked matrix by itself, AdamW for the rest, exact checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from chatwright.engine.muon import MuonAdamW, orthogonalised
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.errors import CheckpointError, TrainingStopped
from tiny_models import tiny_model


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 7
    found = orthogonalised(matrices)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    lifted = torch.linalg.svdvals(found)[s > 0.1 * s.max()]
    assert found.shape == shape and lifted.min() > 0.6 and lifted.max() < 1.25
    exact = u @ vh
    cosine = (found * exact).sum((1, 2)) / (found.norm(dim=(1, 2)) * exact.norm(dim=(1, 2)))
    assert (cosine > 0.95).all()


def test_a_zero_gradient_stays_zero() -> None:
    assert torch.equal(orthogonalised(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


def optimiser(dtype: torch.dtype = torch.float32, **changes: float) -> MuonAdamW:
    model = tiny_model("llama").to(dtype)
    config = OptimConfig(lr=1e-2, weight_decay=changes.pop("weight_decay", 0.0), max_grad_norm=0.0)
    return MuonAdamW(model.named_parameters(), config, model.matrices(), **changes)


def give(optimizer: MasterAdamW, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    grads = {name: torch.randn(p.shape, generator=generator) for name, p in optimizer.params.items()}
    for name, param in optimizer.params.items():
        param.grad = grads[name].to(param.dtype)
    optimizer.collect()
    return grads


def test_the_first_update_is_the_orthogonal_gradient_of_each_part_and_adamw_elsewhere() -> None:
    optimizer = optimiser()
    before = {name: p.detach().clone() for name, p in optimizer.params.items()}
    grads = give(optimizer)
    optimizer.step(0.1, where="test")
    qkv = "blocks.0.attention.qkv.weight"
    rows = optimizer.parts[qkv]
    assert rows == (32, 16, 16) and set(optimizer.parts) == {n for n in before if "blocks" in n and before[n].dim() == 2}
    moved = before[qkv] - optimizer.params[qkv].detach()
    for part, grad in zip(moved.split(rows), grads[qkv].split(rows), strict=True):
        expected = 0.1 * 0.2 * max(part.shape) ** 0.5 * orthogonalised(grad[None])[0]
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-6)
    # AdamW's first step is the sign of the gradient.
    moved = before["embed.weight"] - optimizer.params["embed.weight"].detach()
    torch.testing.assert_close(moved, 0.1 * grads["embed.weight"].sign(), rtol=1e-3, atol=1e-5)


def test_updates_have_the_size_of_adamws() -> None:
    optimizer = optimiser()
    before = {name: p.detach().clone() for name, p in optimizer.params.items()}
    give(optimizer)
    optimizer.step(1.0, where="test")
    for name in optimizer.parts:
        rms = float((optimizer.params[name].detach() - before[name]).square().mean().sqrt())
        assert 0.1 < rms < 0.3, name


def test_weight_decay_shrinks_matrices_by_rate_times_decay() -> None:
    one, other = optimiser(weight_decay=0.5), optimiser()
    name = "blocks.1.mlp.down.weight"
    before = one.params[name].detach().clone()
    for optimizer in (one, other):
        give(optimizer)
        optimizer.step(0.1, where="test")
    torch.testing.assert_close(other.params[name].detach() - one.params[name].detach(), before * 0.05, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    straight = optimiser(dtype)
    for seed in range(4):
        give(straight, seed)
        straight.step(1e-2, where="test")
    first, second = optimiser(dtype), optimiser(dtype)
    for seed in range(2):
        give(first, seed)
        first.step(1e-2, where="test")
    second.load_state_tensors({k: t.clone() for k, t in first.state_tensors("o").items()}, "o")
    for seed in range(2, 4):
        give(second, seed)
        second.step(1e-2, where="test")
    for name, tensor in straight.state_tensors("o").items():
        assert torch.equal(tensor, second.state_tensors("o")[name]), name


def test_foreign_checkpoints_and_bad_gradients_are_refused() -> None:
    optimizer = optimiser()
    tensors = optimizer.state_tensors("o")
    name = next(n for n in tensors if ".momentum." in n)
    lacking = {k: v for k, v in tensors.items() if k != name}
    with pytest.raises(CheckpointError, match="momentum"):
        optimizer.load_state_tensors(lacking, "o")
    with pytest.raises(CheckpointError, match="this model does not"):
        optimizer.load_state_tensors(tensors | {"o.momentum.other": torch.zeros(1)}, "o")
    give(optimizer)
    before = [p.detach().clone() for p in optimizer.params.values()]
    optimizer.masters[name.removeprefix("o.momentum.")].grad[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(TrainingStopped, match="no weight was changed"):
        optimizer.step(1e-2, where="test")
    assert all(torch.equal(a, b) for a, b in zip(before, optimizer.params.values(), strict=True))


@pytest.mark.parametrize("make", [optimiser, lambda: optimiser(torch.bfloat16)])
def test_gradients_that_are_taken_leave_nothing(make: Callable[[], MuonAdamW]) -> None:
    optimizer = make()
    give(optimizer)
    taken = optimizer.take_gradients()
    assert set(taken) == set(optimizer.masters) and optimizer.grad_norm() == 0
