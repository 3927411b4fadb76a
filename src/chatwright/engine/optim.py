"""AdamW with fp32 master weights, gradient clipping, and an exponential moving average of the weights.

Models compute in bf16 or fp32; masters, moments and accumulated gradients are fp32 always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from chatwright.config import check_least, check_share
from chatwright.errors import CheckpointError, TrainingStopped


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW. Defaults: betas from InstructGPT (appendix C)."""

    lr: float
    """Peak learning rate."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.95
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    eps_mode: Literal["torch", "tf"] = "torch"
    """torch: eps beside the bias-corrected root; tf: beside the uncorrected one, as TensorFlow 1 did (N+, 2403.17031)."""
    weight_decay: float = 0.0
    """Decoupled weight decay on matrices (not on norms, biases and scalars)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 switches clipping off."""

    def __post_init__(self) -> None:
        check_least(self, "optim", 0, "lr", "eps", "weight_decay", "max_grad_norm")
        check_share(self, "optim", "beta1", "beta2", whole=False)


class MasterAdamW:
    """AdamW over named parameters. `collect` after each backward, `step` once per update."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], config: OptimConfig) -> None:
        self.config = config
        self.params = {name: p for name, p in named if p.requires_grad}
        self.masters = {
            name: p if p.dtype == torch.float32 else nn.Parameter(p.detach().float())
            for name, p in self.params.items()
        }
        matrices = [m for m in self.masters.values() if m.dim() >= 2]
        others = [m for m in self.masters.values() if m.dim() < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=next(iter(self.masters.values())).device.type in ("cpu", "cuda"),
        )
        self.steps_done = 0

    def collect(self) -> None:
        """Add the parameters' gradients to the fp32 sums of the masters and clear them."""
        for name, param in self.params.items():
            master = self.masters[name]
            if param is master or param.grad is None:
                continue
            if master.grad is None:
                master.grad = param.grad.float()
            else:
                master.grad.add_(param.grad)
            param.grad = None

    def grad_norm(self) -> float:
        """Global L2 norm of what has been accumulated so far."""
        grads = [m.grad for m in self.masters.values() if m.grad is not None]
        if not grads:
            return 0.0
        return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))))

    def take_gradients(self) -> dict[str, torch.Tensor]:
        """Remove and return the accumulated gradients (so that a second loss can be measured by itself)."""
        taken = {name: m.grad for name, m in self.masters.items() if m.grad is not None}
        self.adam.zero_grad(set_to_none=True)
        return taken

    def add_gradients(self, gradients: Mapping[str, torch.Tensor]) -> None:
        """Put gradients of `take_gradients` back, added to what has come since."""
        for name, gradient in gradients.items():
            master = self.masters[name]
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)

    def step(self, lr: float, *, where: str) -> float:
        """Clip, update masters, refresh the compute weights. Returns the gradient norm before clipping.

        A gradient that is not finite raises TrainingStopped naming `where`, before any weight has moved.
        """
        norm = self.grad_norm()
        if not norm < float("inf"):
            raise TrainingStopped(f"{where}: the gradient norm is {norm}; no weight was changed. Try a lower --optim.lr")
        limit = self.config.max_grad_norm
        if limit and norm > limit:
            grads = [m.grad for m in self.masters.values() if m.grad is not None]
            torch._foreach_mul_(grads, limit / norm)
        self.steps_done += 1
        self._update(lr)
        self.adam.zero_grad(set_to_none=True)
        self._refresh()
        return norm

    def _update(self, lr: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = lr
            if self.config.eps_mode == "tf":
                group["eps"] = self.config.eps / (1 - self.config.beta2**self.steps_done) ** 0.5
        self.adam.step()

    @torch.no_grad()
    def _refresh(self) -> None:
        for name, param in self.params.items():
            if param is not self.masters[name]:
                param.copy_(self.masters[name])

    def state_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Masters and moments under `prefix.`; enough to go on bit for bit."""
        out: dict[str, torch.Tensor] = {f"{prefix}.steps_done": torch.tensor(self.steps_done)}
        steps = []  # of each parameter: one that never had a gradient has no moments and no steps
        for name, master in self.masters.items():
            out[f"{prefix}.master.{name}"] = master.detach()
            state = self.adam.state.get(master, {})
            steps.append(int(state["step"]) if state else 0)
            if state:
                out[f"{prefix}.exp_avg.{name}"] = state["exp_avg"]
                out[f"{prefix}.exp_avg_sq.{name}"] = state["exp_avg_sq"]
        out[f"{prefix}.adam_steps"] = torch.tensor(steps)
        return out

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
        """Inverse of `state_tensors`. Missing or extra names and other shapes are a CheckpointError."""
        self.steps_done = int(named_tensor(tensors, f"{prefix}.steps_done"))
        steps = named_tensor(tensors, f"{prefix}.adam_steps", (len(self.masters),)).tolist()
        expected = {f"{prefix}.steps_done", f"{prefix}.adam_steps"}
        for (name, master), steps_of_this in zip(self.masters.items(), steps, strict=True):
            master.copy_(named_tensor(tensors, f"{prefix}.master.{name}", master.shape))
            expected.add(f"{prefix}.master.{name}")
            if steps_of_this:
                moments = {
                    k: torch.empty_like(master).copy_(named_tensor(tensors, f"{prefix}.{k}.{name}", master.shape))
                    for k in ("exp_avg", "exp_avg_sq")
                }
                place = master.device if self.adam.defaults["fused"] else "cpu"  # where torch itself keeps the count
                self.adam.state[master] = {"step": torch.tensor(float(steps_of_this), device=place), **moments}
                expected |= {f"{prefix}.exp_avg.{name}", f"{prefix}.exp_avg_sq.{name}"}
        extra = sorted(k for k in tensors if k.startswith(prefix + ".") and k not in expected)
        if extra:
            raise CheckpointError(f"checkpoint has tensors this model does not: {', '.join(extra[:3])}")
        self._refresh()


def named_tensor(tensors: Mapping[str, torch.Tensor], name: str, shape: Sequence[int] = ()) -> torch.Tensor:
    """A tensor of a checkpoint; CheckpointError when it is missing or of another shape."""
    if name not in tensors:
        raise CheckpointError(f"checkpoint lacks the tensor {name}; it belongs to another model or is incomplete")
    tensor = tensors[name]
    if tuple(tensor.shape) != tuple(shape):
        raise CheckpointError(
            f"checkpoint tensor {name} has shape {tuple(tensor.shape)}, not {tuple(shape)}; it belongs to another model"
        )
    return tensor


class EMA:
    """Moving average of master weights (InstructGPT: decay 0.992), kept in fp32."""

    def __init__(self, optimizer: MasterAdamW, decay: float) -> None:
        self.decay = decay
        self.source = optimizer
        self.average = {name: m.detach().clone() for name, m in optimizer.masters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """average = decay * average + (1 - decay) * weights."""
        for name, master in self.source.masters.items():
            self.average[name].lerp_(master, 1 - self.decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Put the averaged weights into the compute parameters (for export)."""
        for name, param in self.source.params.items():
            param.copy_(self.average[name])

    def state_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """The averages under `prefix.`."""
        return {f"{prefix}.{name}": value for name, value in self.average.items()}

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
        """Inverse of `state_tensors`."""
        for name, value in self.average.items():
            value.copy_(named_tensor(tensors, f"{prefix}.{name}", value.shape))
