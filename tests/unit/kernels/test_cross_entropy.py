"""The fused cross-entropy equals its plain reference: values, gradients, entropy, temperature, every memory path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.kernels import cross_entropy
from chatwright.kernels.cross_entropy import plain_token_logprobs, token_logprobs


def inputs(num: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(num, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, 50, (num,), generator=generator)


def gradients(
    logprobs: torch.Tensor, upstream: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad((logprobs * upstream).sum(), (hidden, weight))


def compare(num: int, seed: int, temperature: float) -> None:
    hidden, weight, targets = inputs(num, seed)
    upstream = torch.randn(num, generator=torch.Generator().manual_seed(seed + 1))
    plain, plain_entropy = plain_token_logprobs(hidden, weight, targets, temperature)
    fast, entropy = token_logprobs(hidden, weight, targets, temperature, with_entropy=True)
    assert entropy is not None and not entropy.requires_grad
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, plain_entropy, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        gradients(fast, upstream, hidden, weight), gradients(plain, upstream, hidden, weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000), st.sampled_from([1.0, 0.7, 2.0]))
def test_equals_the_reference(num: int, seed: int, temperature: float) -> None:
    compare(num, seed, temperature)


@pytest.mark.parametrize("keep_bytes", [0, 2**30], ids=["logits computed again", "logits kept"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_every_chunk_size_and_both_backward_paths(
    chunk: int, keep_bytes: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK_ROWS", chunk)
    monkeypatch.setattr(cross_entropy, "_CACHED_ROWS", 5)
    monkeypatch.setattr(cross_entropy, "_KEEP_BYTES", keep_bytes)
    compare(33, chunk, temperature)


def test_bf16_is_close_to_the_reference_and_its_logprobs_are_fp32() -> None:
    hidden, weight, targets = inputs(40, 0, torch.bfloat16)
    fast, entropy = token_logprobs(hidden, weight, targets, with_entropy=True)
    plain, plain_entropy = plain_token_logprobs(hidden, weight, targets)
    assert fast.dtype == torch.float32 and entropy is not None
    torch.testing.assert_close(fast, plain, rtol=0.02, atol=0.05)
    torch.testing.assert_close(entropy, plain_entropy, rtol=0.02, atol=0.05)
    ours, theirs = gradients(fast, torch.ones(40), hidden, weight), gradients(plain, torch.ones(40), hidden, weight)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.float(), b.float(), rtol=0.1, atol=0.15)


def test_no_tokens_and_frozen_inputs() -> None:
    hidden, weight, targets = inputs(0, 0)
    logprobs, entropy = token_logprobs(hidden, weight, targets)
    assert logprobs.shape == (0,) and entropy is None
    logprobs.sum().backward()
    hidden, weight, targets = inputs(9, 0)
    frozen = weight.detach()
    fast, _ = token_logprobs(hidden, frozen, targets)
    plain, _ = plain_token_logprobs(hidden, frozen, targets)
    (ours,), (theirs,) = torch.autograd.grad(fast.sum(), hidden), torch.autograd.grad(plain.sum(), hidden)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert not token_logprobs(hidden, weight, targets)[0].requires_grad


def test_the_temperature_is_that_of_sampling() -> None:
    """softmax(logits / temperature), so that rho = 1 for rollouts drawn at any temperature."""
    hidden, weight, targets = inputs(6, 2)
    expected = torch.log_softmax(hidden.detach() @ weight.detach().T / 0.3, -1)[torch.arange(6), targets]
    torch.testing.assert_close(token_logprobs(hidden, weight, targets, 0.3)[0].detach(), expected, rtol=1e-4, atol=1e-4)


def test_a_large_batch_never_holds_all_logits_in_fp32() -> None:
    """TRL stacked B*T*V score tensors; here no tensor saved for backward is larger than a chunk of logits."""
    hidden, weight, targets = inputs(2500, 1)
    shapes: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(t.shape) or t, lambda t: t):
        token_logprobs(hidden, weight, targets)
    assert max(shape[0] for shape in shapes if len(shape) == 2 and shape[-1] == 50) <= 1024


def test_confident_tokens_have_their_gradient_in_bf16() -> None:
    """p(target) near 1: onehot - p of rounded numbers is noise or exactly 0. The error is that of the last rounding only."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 16, generator=generator).bfloat16()
    targets = torch.randint(0, 50, (256,), generator=generator)
    scale = torch.linspace(0.3, 0.9, 256)[:, None]
    hidden = (weight[targets].float() * scale).bfloat16().requires_grad_()
    logits = (hidden.detach() @ weight.t()).float()  # what the kernel has: logits rounded to bf16
    confident = torch.softmax(logits, -1).gather(1, targets[:, None])[:, 0] > 0.99
    assert confident.sum() > 50
    fast, _ = token_logprobs(hidden, weight, targets)
    (ours,) = torch.autograd.grad(fast.sum(), hidden)
    exact = (torch.nn.functional.one_hot(targets, 50) - torch.softmax(logits, -1)) @ weight.float()
    error = (ours.float() - exact)[confident].norm() / exact[confident].norm()
    assert error < 0.02, f"{error:.3f}"
