"""Linear layers for generation: weights reordered once into the layout that oneDNN multiplies with.

`x @ W.T` with an activation, a product or a sum folded into the same call. `PackedLinear` is the fast path on a CPU (bf16:
1.2-1.4 times `F.linear`, fp32: twice, as torch sends fp32 to MKL); `PlainLinear` is the reference and the path of
other devices. A test holds the two equal. For a given weight a row of the result does not depend on the other rows.

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


class PlainLinear:
    """The reference: `F.linear` and separate elementwise operations."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> None:
        self.weight_OI, self.bias_O = weight_OI.detach(), None if bias_O is None else bias_O.detach()

    def apply(self, x_NI: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
        """activation(x @ W.T + b): [N, O]."""
        out_NO = F.linear(x_NI, self.weight_OI, self.bias_O)
        if activation == "silu":
            return F.silu(out_NO)
        return F.gelu(out_NO, approximate="tanh") if activation == "gelu_tanh" else out_NO

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

    def apply(self, x_NI: torch.Tensor, activation: Activation = "none") -> torch.Tensor:
        """activation(x @ W.T + b): [N, O]."""
        name, algorithm = self._FUSED[activation]
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x_NI, self.packed, self.bias_O, name, [], algorithm)
        return out

    def add_to(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other + (x @ W.T + b): [N, O]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x_NI, other_NO, self.packed, self.bias_O, "add")
        return out

    def times(self, x_NI: torch.Tensor, other_NO: torch.Tensor) -> torch.Tensor:
        """other * (x @ W.T + b): [N, O]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x_NI, other_NO, self.packed, self.bias_O, "mul")
        return out


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN's packed layers are there for this dtype (found out by running one)."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    try:
        layer = PackedLinear(torch.ones(16, 16, dtype=dtype))
        for out in (layer.apply(torch.ones(2, 16, dtype=dtype), "silu"), layer.times(*[torch.ones(2, 16, dtype=dtype)] * 2)):
            if out.shape != (2, 16):
                return False
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    return True


def decode_linear(weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None, *, packed: bool) -> DecodeLinear:
    """The packed layer when asked for, the plain one otherwise."""
    return PackedLinear(weight_OI, bias_O) if packed else PlainLinear(weight_OI, bias_O)
