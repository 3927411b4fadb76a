"""Settings of pre-training, and the size dial: from `--depth` follow width, heads, tokens, batch and learning rate.

The rule, with its sources (everything can be set by hand instead):
* width = 64 x depth, a head for every 64 features (the aspect ratio of nanochat's depth dial, karpathy/nanochat);
  feed-forward width = 8/3 of the width (SwiGLU, arXiv 2002.05202), rounded up to a multiple of 64.
* training tokens D = 20 per parameter N (Chinchilla, arXiv 2203.15556), compute C = 6 N D operations.
* batch = 0.2920 C^0.3271 tokens and learning rate = 0.3118 C^-0.1250 (DeepSeek LLM, arXiv 2401.02954, equation 1; fitted
  there from 1e17 operations on, so for small models it is an extrapolation: `docs/methods/pretraining.md` says what we saw).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from chatwright.config import check_least, check_share
from chatwright.data.masking import MaskConfig
from chatwright.data.pretrain import Objective
from chatwright.engine import run as runs
from chatwright.engine.schedule import ScheduleConfig
from chatwright.engine.spikes import SpikeConfig
from chatwright.errors import ConfigError
from chatwright.model.config import ModelConfig
from chatwright.model.precision import DeviceName, Precision

TOKENS_PER_PARAMETER = 20
CLOCK_BATCH = 4096
"""Most tokens of a step where the dial's length does not hold: by the clock on a CPU, and from a trained model."""
LEAST_STEPS = 100
"""One pass over a small text has at least so many steps, as far as whole windows allow."""
CONTINUED_RATE = 0.1
"""Peak rate of a model that is trained further, over that of the dial."""
_HEAD = 64
_LARGEST_RATE = 0.02


@dataclass(frozen=True, kw_only=True)
class PretrainTrainConfig(runs.SaveConfig):
    """Length of the run and size of its steps."""

    steps: int = 0
    """Optimiser steps; 0: as many as the size dial says, with --model one pass over the text."""
    minutes: float = 0.0
    """Train for this long instead, with the schedule fitted to it; 0: by steps. Evaluation and samples do not count."""
    batch_tokens: int = 0
    """Tokens in one step; 0: by the size dial. By the clock on a CPU and with --model at most 4096, so that a short run has
    enough steps."""
    micro_tokens: int = 8192
    """Tokens that go through the model at once; changes memory and speed, not the result."""
    dropout: float = 0.0
    """Residual dropout: for many passes over little text."""
    ema_decay: float = 0.0
    """Keep a moving average of the weights and export that; 0: the last weights."""

    def __post_init__(self) -> None:
        check_least(self, "train", 0, "steps", "minutes", "batch_tokens")
        check_least(self, "train", 1, "micro_tokens")
        if self.steps and self.minutes:
            raise ConfigError("--train.steps and --train.minutes: give one of the two")
        check_share(self, "train", "ema_decay", "dropout", whole=False)


@dataclass(frozen=True, kw_only=True)
class SizeConfig:
    """Parts of the model's shape that override the size dial; 0: by the dial."""

    width: int = 0
    """Features of the residual stream."""
    heads: int = 0
    """Attention heads."""
    kv_heads: int = 0
    """Key and value heads; 0: as many as heads."""
    feed_forward: int = 0
    """Width of the feed-forward layers."""
    qk_norm: bool = True
    """Normalise queries and keys (the qwen3 family; without it: llama)."""
    tie: bool = True
    """One matrix for embeddings and output."""

    def __post_init__(self) -> None:
        check_least(self, "size", 0, "width", "heads", "kv_heads", "feed_forward")


@dataclass(frozen=True, kw_only=True)
class PretrainOptimConfig:
    """Optimiser."""

    kind: Literal["muon", "adamw"] = "muon"
    """muon: Muon for the matrices of the blocks and AdamW for the rest; adamw: AdamW for everything."""
    lr: float = 0.0
    """Peak learning rate; 0: by the size dial, with --model a tenth of it."""
    adam_lr_factor: float = 1.0
    """With muon: the rate of embeddings, norms and output over that of the matrices."""
    momentum: float = 0.95
    """Of Muon."""
    beta1: float = 0.9
    """AdamW: decay of the first moment."""
    beta2: float = 0.95
    """AdamW: decay of the second moment."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 switches clipping off."""

    def __post_init__(self) -> None:
        check_least(self, "optim", 0, "lr", "adam_lr_factor", "weight_decay", "max_grad_norm")
        check_share(self, "optim", "momentum", "beta1", "beta2", whole=False)


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """Loss on text that is never trained on."""

    every_steps: int = 0
    """Measure every this many steps; 0: ten times in a run by steps, and at the end."""
    tokens: int = 262_144
    """Most tokens of the held-out text that are read while training; 0: all."""
    final_tokens: int = 0
    """The same for the last measurement; 0: all."""

    def __post_init__(self) -> None:
        check_least(self, "held-out", 0, "every_steps", "tokens", "final_tokens")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Texts that the model writes while it learns (samples.jsonl)."""

    every_steps: int = 0
    """Write samples before training and every this many steps; 0: at the end only."""
    prompts: tuple[str, ...] = ("",)
    """Beginnings; an empty one lets the model begin by itself."""
    max_new_tokens: int = 64
    """Longest sample in tokens."""
    temperature: float = 0.8
    """0: always the likeliest token."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Train a model from nothing but text."""

    data: str
    """Folder of `chatwright corpus build`."""
    model: str = ""
    """Train this model further (named model, Hugging Face name, or folder); the corpus is built with its tokenizer, and its
    shape stays. Empty: a new model."""
    out: str = "runs/pretrain"
    """Run folder."""
    depth: int = 4
    """The size dial of a new model: layers; width, heads, tokens, batch and learning rate follow from it."""
    context: int = 512
    """Tokens of a window, and the longest text the model can read."""
    objective: Objective = "causal"
    """causal: predict the next token; masked: restore hidden words from both sides; mixed: both, batch by batch."""
    mixed_share: float = 0.5
    """mixed: share of the steps that are masked."""
    documents: Literal["joined", "apart"] = "joined"
    """Whether documents that share a window see one another."""
    fresh: bool = False
    """Delete the run in `out` and start anew; without it, a run of other inputs or settings is refused."""
    seed: int = 0
    """Fixes weights, data order, masks and dropout."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; masters and moments are fp32 always."""
    train: PretrainTrainConfig = PretrainTrainConfig()
    """Length and batch."""
    size: SizeConfig = SizeConfig()
    """The model's shape by hand."""
    optim: PretrainOptimConfig = PretrainOptimConfig()
    """Optimiser."""
    schedule: ScheduleConfig = ScheduleConfig(kind="wsd", final_share=0.0, decay_share=0.4)
    """Learning-rate schedule."""
    mask: MaskConfig = MaskConfig()
    """What the masked objective hides."""
    held_out: HeldOutConfig = HeldOutConfig()
    """Measurement on held-out text."""
    sample: SampleConfig = SampleConfig()
    """Samples while training."""
    spikes: SpikeConfig = SpikeConfig()
    """What happens when the loss jumps."""

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 128:
            raise ConfigError(f"--depth {self.depth}: must be from 1 to 128")
        if self.context < 2:
            raise ConfigError(f"--context {self.context}: must be at least 2")
        if not 0 < self.mixed_share < 1:
            raise ConfigError(f"--mixed-share {self.mixed_share}: must lie between 0 and 1")
        if self.objective == "masked" and self.sample.every_steps:
            raise ConfigError("--sample.every-steps: has no effect with --objective masked, which does not write text")
        if self.model and (self.depth != PretrainConfig.depth or self.size != SizeConfig()):
            raise ConfigError(f"--model {self.model}: keeps its shape; leave out --depth and --size")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the dial and the settings come to (plan.json in the run folder)."""

    parameters: int
    """Weights of the model, tied matrices once."""
    batch_tokens: int
    """Tokens in one step, whole windows."""
    windows: int
    """Windows in one step."""
    steps: int
    """Optimiser steps; 0: by the clock."""
    lr: float
    """Peak learning rate."""
    dial_tokens: int
    """Training tokens that the dial asks for."""

    def to_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)


def model_config(cfg: PretrainConfig, vocab_size: int) -> ModelConfig:
    """The shape that `--depth` and `--size.*` come to. ConfigError when heads do not divide the width."""
    width = cfg.size.width or _HEAD * cfg.depth
    heads = cfg.size.heads or max(width // _HEAD, 1)
    if width % heads or (width // heads) % 2:
        raise ConfigError(f"--size.heads {heads}: a width of {width} does not split into that many heads of even size")
    feed_forward = cfg.size.feed_forward or math.ceil(width * 8 / 3 / 64) * 64
    return ModelConfig(
        family="qwen3" if cfg.size.qk_norm else "llama",
        vocab_size=vocab_size,
        hidden_size=width,
        num_layers=cfg.depth,
        num_heads=heads,
        num_kv_heads=cfg.size.kv_heads or heads,
        head_dim=width // heads,
        intermediate_size=feed_forward,
        max_positions=cfg.context,
        norm_eps=1e-6,
        qk_norm=cfg.size.qk_norm,
        tie_embeddings=cfg.size.tie,
    )


def plan_of(cfg: PretrainConfig, model: ModelConfig, *, text_tokens: int = 0, on_cpu: bool = False) -> Plan:
    """Batch, steps and learning rate. `text_tokens`: size of the text, for one pass over it with `--model`."""
    parameters = model.num_parameters()
    tokens = TOKENS_PER_PARAMETER * parameters
    compute = 6.0 * parameters * tokens
    wanted = cfg.train.batch_tokens or _batch_tokens(cfg, 0.2920 * compute**0.3271, text_tokens, on_cpu)
    windows = max(round(wanted / cfg.context), 1)
    batch_tokens = windows * cfg.context
    length = text_tokens if cfg.model else tokens
    steps = 0 if cfg.train.minutes else cfg.train.steps or math.ceil(length / batch_tokens)
    rate = min(0.3118 * compute**-0.1250, _LARGEST_RATE) * (CONTINUED_RATE if cfg.model else 1.0)
    return Plan(
        parameters=parameters, batch_tokens=batch_tokens, windows=windows, steps=steps, lr=cfg.optim.lr or rate,
        dial_tokens=tokens,
    )  # fmt: skip


def _batch_tokens(cfg: PretrainConfig, dial: float, text_tokens: int, on_cpu: bool) -> float:
    """The dial's batch suits the dial's length; a shorter run takes a smaller one, so that it has enough steps."""
    if cfg.model and not (cfg.train.steps or cfg.train.minutes):
        return min(dial, CLOCK_BATCH, text_tokens / LEAST_STEPS)
    if cfg.model or (cfg.train.minutes and on_cpu):
        return min(dial, CLOCK_BATCH)
    return dial
