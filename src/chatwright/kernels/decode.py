"""Linear layers for generation: weights reordered once into the layout that oneDNN multiplies with.

`x @ W.T` with an activation, a product or a sum folded into the same call. `PackedLinear` is the fast path on a CPU
(bf16: 1.2-1.4 times `F.linear`, fp32: up to twice, as torch sends fp32 to MKL); `PlainLinear` is the reference and the
path of other devices. A test holds the two equal.

Shapes: N rows, I input features, O output features.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F

Activation = Literal["none", "silu", "gelu_tanh"]
_ROWS_HINT = 64  # rows the layout is chosen for; measured to be good from 1 to 320


class DecodeLinear(Protocol):
    """A linear layer whose weights do not change while text is generated."""

    def apply(self, x_NI: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
        """activation(x @ W.T + b): [N, O]."""

    def add_to(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other + (x @ W.T + b): [N, O]."""

    def times(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other * (x @ W.T + b): [N, O]."""


def activate(x_NO: torch.Tensor, activation: Activation) -> torch.Tensor:
    """The activation by itself."""
    if activation == "silu":
        return F.silu(x_NO)
    return F.gelu(x_NO, approximate="tanh") if activation == "gelu_tanh" else x_NO


class PlainLinear:
    """The reference: `F.linear` and separate elementwise operations."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> None:
        self.weight_OI, self.bias_O = weight_OI.detach(), None if bias_O is None else bias_O.detach()

    def apply(self, x_NI: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
        """activation(x @ W.T + b): [N, O]."""
        return activate(F.linear(x_NI, self.weight_OI, self.bias_O), activation)

    def add_to(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other + (x @ W.T + b): [N, O]."""
        return other_NO + F.linear(x_NI, self.weight_OI, self.bias_O)

    def times(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other * (x @ W.T + b): [N, O]."""
        return other_NO * F.linear(x_NI, self.weight_OI, self.bias_O)


class PackedLinear:
    """oneDNN on reordered weights. Holds a copy: later changes of the original weight are not seen."""

    _FUSED: dict[str, tuple[str, str]] = {"none": ("none", ""), "silu": ("swish", ""), "gelu_tanh": ("gelu", "tanh")}

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> None:
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().contiguous(), _ROWS_HINT)
        self.bias_O = None if bias_O is None else bias_O.detach().clone()
        self._linear = torch.ops.mkldnn._linear_pointwise.default
        self._binary = torch.ops.mkldnn._linear_pointwise.binary

    def apply(self, x_NI: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
        """activation(x @ W.T + b): [N, O]."""
        name, algorithm = self._FUSED[activation]
        out: torch.Tensor = self._linear(x_NI, self.packed, self.bias_O, name, [], algorithm)
        return out

    def add_to(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other + (x @ W.T + b): [N, O]."""
        out: torch.Tensor = self._binary(x_NI, other_NO, self.packed, self.bias_O, "add")
        return out

    def times(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other * (x @ W.T + b): [N, O]."""
        out: torch.Tensor = self._binary(x_NI, other_NO, self.packed, self.bias_O, "mul")
        return out


def one_dnn_linear(x_NI: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
    """x @ W.T without a gradient, fp32 by oneDNN on a CPU: torch sends it to MKL, which takes up to twice as long."""
    if x_NI.device.type != "cpu" or x_NI.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return F.linear(x_NI, weight_OI)
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, weight_OI, None, "none", [], "")
    return out


class AdaptedLinear:
    """A linear layer and a low-rank adapter beside it: x @ W.T + b + (x @ A.T) @ B.T, scale inside B."""

    def __init__(self, base: DecodeLinear, a_RI: DecodeLinear, b_OR: DecodeLinear) -> None:
        self.base, self.a_RI, self.b_OR = base, a_RI, b_OR

    def apply(self, x_NI: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
        """activation(the whole layer): [N, O]."""
        return activate(self.b_OR.add_to(self.a_RI.apply(x_NI), self.base.apply(x_NI)), activation)

    def add_to(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other + the whole layer: [N, O]."""
        return self.b_OR.add_to(self.a_RI.apply(x_NI), self.base.add_to(x_NI, other_NO))

    def times(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other * the whole layer: [N, O]."""
        return other_NO * self.apply(x_NI)


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN's packed layers are there for this dtype (found out by running one)."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    ones = torch.ones(16, 16, dtype=dtype)
    try:
        layer = PackedLinear(ones)
        return bool(torch.equal(layer.times(ones, ones), layer.add_to(ones, ones) - 1))
    except (RuntimeError, NotImplementedError, AttributeError):
        return False


def decode_linear(weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None, *, packed: bool) -> DecodeLinear:
    """The packed layer when asked for, the plain one otherwise."""
    return PackedLinear(weight_OI, bias_O) if packed else PlainLinear(weight_OI, bias_O)
