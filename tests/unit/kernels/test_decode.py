"""The packed linear layer against its plain reference."""

from __future__ import annotations

import pytest
import torch

from chatwright.kernels.decode import AdaptedLinear, PackedLinear, PlainLinear, can_pack, decode_linear

CPU = torch.device("cpu")
# What this machine's oneDNN can pack: bf16 needs a processor that multiplies it. fp32 is there on every one.
DTYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_pack(dtype, CPU)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_equals_plain(dtype: torch.dtype, rows: int, bias: bool) -> None:
    torch.manual_seed(rows)
    weight = torch.randn(40, 24, dtype=dtype) / 5
    bias_O = torch.randn(40, dtype=dtype) if bias else None
    x, other = torch.randn(rows, 24, dtype=dtype), torch.randn(rows, 40, dtype=dtype)
    packed, plain = PackedLinear(weight, bias_O), PlainLinear(weight, bias_O)
    # One rounding less than the reference, which rounds before the folded operation.
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for activation in ("none", "silu", "gelu_tanh"):
        torch.testing.assert_close(packed.apply(x, activation), plain.apply(x, activation), **close)
    torch.testing.assert_close(packed.add_to(x, other), plain.add_to(x, other), **close)
    torch.testing.assert_close(packed.times(x, other), plain.times(x, other), **close)


def test_fp32_can_be_packed() -> None:
    assert torch.float32 in DTYPES


def test_folded_operations_mean_what_they_say() -> None:
    layer = PlainLinear(torch.eye(3), torch.ones(3))
    x = torch.tensor([[1.0, -2.0, 3.0]])
    assert torch.equal(layer.add_to(x, x), 2 * x + 1)
    assert torch.equal(layer.times(x, x), x * (x + 1))
    assert torch.equal(layer.apply(x, "silu"), torch.nn.functional.silu(x + 1))


@pytest.mark.parametrize("packed", [False, True])
def test_adapter_beside_a_layer(packed: bool) -> None:
    torch.manual_seed(0)
    weight, bias_O, a, b = torch.randn(6, 4), torch.randn(6), torch.randn(2, 4), torch.randn(6, 2)
    x, other = torch.randn(5, 4), torch.randn(5, 6)
    whole = PlainLinear(weight + b @ a, bias_O)
    layer = AdaptedLinear(
        decode_linear(weight, bias_O, packed=packed), decode_linear(a, packed=packed), decode_linear(b, packed=packed)
    )
    torch.testing.assert_close(layer.apply(x, "silu"), whole.apply(x, "silu"))
    torch.testing.assert_close(layer.add_to(x, other), whole.add_to(x, other))
    torch.testing.assert_close(layer.times(x, other), whole.times(x, other))


def test_a_packed_layer_is_a_copy() -> None:
    weight = torch.randn(16, 16)
    layer, x = PackedLinear(weight), torch.randn(2, 16)
    before = layer.apply(x)
    weight.zero_()
    assert torch.equal(layer.apply(x), before)


def test_other_devices_and_dtypes_are_not_packed() -> None:
    assert not can_pack(torch.float32, torch.device("meta"))
    assert not can_pack(torch.float16, CPU)
