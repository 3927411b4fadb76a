"""Run-time invariants and guard rails of PPO, and the newest weights that were measured to be inside the limits.

A breach says why in plain words. Tolerances are for fp32; bf16 has its own, as its numbers have 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from chatwright.engine.optim import EMA, MasterAdamW
from chatwright.errors import TrainingStopped
from chatwright.generation.api import SamplingParams
from chatwright.generation.local import LocalGenerator
from chatwright.kernels.cross_entropy import token_logprobs
from chatwright.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Invariants are on by default; limits stop or roll back the run."""

    invariants: bool = True
    """Check |log rho| of the first minibatch, KL(pi, pi) = 0 at the start, and cache = full forward."""
    log_ratio_fp32: float = 1e-4
    """Largest |log rho| of the first minibatch in fp32."""
    log_ratio_bf16: float = 0.02
    """The same in bf16."""
    cache_gap_fp32: float = 1e-3
    """Largest mean difference between the log-probabilities of cached decoding and of a full forward, nats per token."""
    cache_gap_bf16: float = 0.25
    """The same in bf16, where matrix products of another shape round otherwise (0.05 is usual)."""
    max_kl_per_token: float = 0.5
    """Limit of the mean KL to the reference, nats per token."""
    min_entropy: float = 0.05
    """Limit of the mean entropy, nats per token."""
    min_answer_tokens: float = 2.0
    """Limit of the mean answer length from below, in tokens."""
    max_clip_fraction: float = 0.5
    """Limit of the share of clipped ratios."""
    on_breach: Literal["rollback", "stop"] = "rollback"
    """rollback: export the newest weights whose own measured figures are inside the limits (a copy of the trained weights is
    kept in memory for this); stop: end with an error."""


def check_first_minibatch(largest: float, dtype: torch.dtype, cfg: GuardConfig, where: str) -> None:
    """Before any update the policy is the one that wrote the old log-probabilities: |log rho| is rounding only."""
    limit = cfg.log_ratio_fp32 if dtype == torch.float32 else cfg.log_ratio_bf16
    if cfg.invariants and largest > limit:
        raise TrainingStopped(
            f"{where}: |log rho| of the first minibatch is {largest:.2g}, the limit for {dtype} is {limit:g}: old and new "
            "log-probabilities do not come from the same computation. No weight was changed"
        )


@torch.no_grad()
def check_start(
    policy: Transformer, reference: Transformer, generator: LocalGenerator, prompt: Sequence[int], cfg: GuardConfig
) -> None:
    """KL(pi, pi) = 0 when the reference is the starting policy, and cached decoding agrees with a full forward."""
    if not cfg.invariants:
        return
    answer = generator.generate([prompt], SamplingParams(max_new_tokens=16, temperature=1.0))[0][0]
    tokens_BT = torch.tensor([[*prompt, *answer.ids]], device=policy.embed.weight.device)
    targets_N = tokens_BT[0, len(prompt) :]

    def logprobs(model: Transformer) -> torch.Tensor:
        hidden_ND = model.eval()(tokens_BT)[0, len(prompt) - 1 : -1]
        return token_logprobs(hidden_ND, model.output_weight(), targets_N)[0].cpu()

    full_N = logprobs(policy)
    gap = float((full_N - torch.tensor(answer.logprobs)).abs().mean())
    limit = cfg.cache_gap_fp32 if policy.embed.weight.dtype == torch.float32 else cfg.cache_gap_bf16
    if gap > limit:
        raise TrainingStopped(
            f"ppo: cached decoding differs from a full forward by {gap:.2g} nats per token (limit {limit:g})"
        )
    own, other = dict(policy.named_parameters()), dict(reference.named_parameters())
    same = own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    if same and not torch.equal(full_N, logprobs(reference)):
        raise TrainingStopped("ppo: KL(pi, pi) is not 0 at the start; the reference is computed in another way")


_MEASURED = (
    ("kl_per_token", "the policy has moved too far from the reference"),
    ("entropy", "the policy has nearly stopped to vary its answers"),
    ("answer_tokens", "the answers have become too short"),
)


def measured_breach(values: Mapping[str, float], cfg: GuardConfig, where: str) -> str:
    """Why these figures of a batch, measured before its update, cross a limit; empty when they do not. A figure that is no
    number crosses it."""
    limits = {"kl_per_token": cfg.max_kl_per_token, "entropy": cfg.min_entropy, "answer_tokens": cfg.min_answer_tokens}
    for name, words in _MEASURED:
        inside = values[name] <= limits[name] if name == "kl_per_token" else values[name] >= limits[name]
        if not inside:
            return f"{where}: {words} ({name} {values[name]:.3g} against the limit {limits[name]:g})"
    return ""


def update_breach(clip_fraction: float, cfg: GuardConfig, where: str) -> str:
    """Why an update crosses a limit; empty when it does not."""
    if clip_fraction <= cfg.max_clip_fraction:
        return ""
    return (
        f"{where}: most updates are clipped: the rate is too high "
        f"(clip_fraction {clip_fraction:.3g} against the limit {cfg.max_clip_fraction:g})"
    )


@dataclass(kw_only=True)
class LastGood:
    """The newest weights whose own figures, measured on the batch after them, are inside the limits.

    A copy of the trained weights in the compute format, in the CPU's memory: 2 or 4 bytes a weight, with an average twice
    that. It is part of a checkpoint, so that a resumed run rolls back to the same weights.
    """

    optimizer: MasterAdamW
    ema: EMA | None
    step: int = -1
    """Updates behind the weights; -1: none were measured to be inside the limits."""
    figures: dict[str, float] = field(default_factory=dict)
    """Their figures."""
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    """`weights.NAME`, and `average.NAME` with an average."""

    @torch.no_grad()
    def keep(self, step: int, figures: Mapping[str, float]) -> None:
        """Copy the weights as they are."""
        self.step, self.figures = step, dict(figures)
        params = self.optimizer.params
        self.tensors = {f"weights.{name}": _copy(p, p.dtype) for name, p in params.items()}
        if self.ema is not None:
            self.tensors |= {f"average.{n}": _copy(value, params[n].dtype) for n, value in self.ema.average.items()}

    def put_back(self, kind: Literal["weights", "average"]) -> None:
        """The kept weights, or their average, become the model's."""
        with torch.no_grad():
            for name, parameter in self.optimizer.params.items():
                parameter.copy_(self.tensors[f"{kind}.{name}"])

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """For the checkpoint."""
        return {f"good.{name}": tensor for name, tensor in self.tensors.items()}, {
            "step": self.step,
            "figures": self.figures,
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.step, self.figures = int(meta["step"]), dict(meta["figures"])
        self.tensors = {name.removeprefix("good."): tensors[name] for name in tensors if name.startswith("good.")}


def _copy(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.detach().to("cpu", dtype, copy=True)
