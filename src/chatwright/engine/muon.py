"""Muon: momentum made orthogonal before it is applied (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

Matrices of the blocks take Muon; embeddings, output matrix, norms and biases take AdamW. An update is scaled to the root
mean square that AdamW's has (arXiv 2502.16982, section 2.2), so that one learning rate and one weight decay serve both.

Shapes: M rows, N columns of a matrix, G matrices of one shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from chatwright.engine.optim import MasterAdamW, OptimConfig, named_tensor
from chatwright.errors import CheckpointError

# p(x) = a x + b x^3 + c x^5, chosen by the authors to lift small singular values fast; five rounds bring most to about 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
_RMS_OF_ADAMW = 0.2  # what AdamW's updates have in practice (arXiv 2502.16982)


def orthogonalised(matrices_GMN: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Each matrix U S V^T -> about U V^T, by Newton-Schulz rounds computed in `dtype`: [G, M, N] fp32."""
    x_GMN = matrices_GMN.to(dtype)
    tall = x_GMN.shape[1] > x_GMN.shape[2]
    if tall:
        x_GMN = x_GMN.transpose(1, 2)
    norm_G11 = torch.linalg.matrix_norm(x_GMN.float(), keepdim=True).clamp(min=1e-7)
    x_GMN = (x_GMN / norm_G11).to(dtype)
    for _ in range(_ROUNDS):
        gram_GMM = torch.bmm(x_GMN, x_GMN.transpose(1, 2))
        poly_GMM = torch.baddbmm(gram_GMM, gram_GMM, gram_GMM, beta=_B, alpha=_C)
        x_GMN = torch.baddbmm(x_GMN, poly_GMM, x_GMN, beta=_A)
    return (x_GMN.transpose(1, 2) if tall else x_GMN).float()


class MuonAdamW(MasterAdamW):
    """Muon for the parameters named in `parts`, AdamW for all others; clipping, masters, checkpoints as in MasterAdamW."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        config: OptimConfig,
        parts: Mapping[str, tuple[int, ...]],
        *,
        momentum: float = 0.95,
        adam_lr_factor: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`parts`: rows of the matrices a parameter stacks (query, key, value, say), each made orthogonal by itself.
        `adam_lr_factor`: rate of AdamW's parameters over Muon's. `dtype`: number format of the Newton-Schulz rounds."""
        everything = list(named)
        super().__init__(everything, config)
        self.momentum, self.dtype = momentum, dtype
        self.parts = {name: rows for name, rows in parts.items() if name in self.params}
        self.buffers = {name: torch.zeros_like(self.masters[name], requires_grad=False) for name in self.parts}
        ours = {id(self.masters[name]) for name in self.parts}
        for group in self.adam.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in ours]
        self._adam_lr_factor = adam_lr_factor
        for name, rows in self.parts.items():
            assert sum(rows) == self.masters[name].shape[0], f"{name}: parts {rows} of {self.masters[name].shape[0]} rows"

    def _update(self, lr: float) -> None:
        self._muon(lr)
        for name in self.parts:
            self.masters[name].grad = None  # zero_grad of AdamW no longer reaches these
        super()._update(lr * self._adam_lr_factor)

    @torch.no_grad()
    def _muon(self, lr: float) -> None:
        """Nesterov momentum, then one batch of Newton-Schulz rounds for all matrices of a shape."""
        by_shape: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for name, rows in self.parts.items():
            master, grad, buffer = self.masters[name], self.masters[name].grad, self.buffers[name]
            if grad is None:
                continue
            buffer.lerp_(grad, 1 - self.momentum)
            direction = grad.lerp(buffer, self.momentum)
            for part, target in zip(direction.split(rows), master.split(rows), strict=True):
                by_shape.setdefault((part.shape[0], part.shape[1]), []).append((part, target))
        for (num_rows, num_columns), pairs in by_shape.items():
            update_GMN = orthogonalised(torch.stack([part for part, _ in pairs]), self.dtype)
            scale = _RMS_OF_ADAMW * max(num_rows, num_columns) ** 0.5
            for (_, target), update_MN in zip(pairs, update_GMN, strict=True):
                target.mul_(1 - lr * self.config.weight_decay).add_(update_MN, alpha=-lr * scale)

    def take_gradients(self) -> dict[str, torch.Tensor]:
        """As in MasterAdamW, Muon's parameters included."""
        taken = super().take_gradients()
        for name in self.parts:
            self.masters[name].grad = None
        return taken

    def state_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """As in MasterAdamW, with Muon's momentum."""
        momentum = {f"{prefix}.momentum.{name}": buffer for name, buffer in self.buffers.items()}
        return super().state_tensors(prefix) | momentum

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
        """Inverse of `state_tensors`."""
        head = f"{prefix}.momentum."
        for name, buffer in self.buffers.items():
            buffer.copy_(named_tensor(tensors, head + name, buffer.shape))
        extra = [key for key in tensors if key.startswith(head) and key.removeprefix(head) not in self.buffers]
        if extra:
            raise CheckpointError(f"checkpoint has tensors this model does not: {', '.join(extra[:3])}")
        rest = {key: tensors[key] for key in tensors if key.startswith(f"{prefix}.") and not key.startswith(head)}
        super().load_state_tensors(rest, prefix)
