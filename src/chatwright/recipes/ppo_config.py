"""Settings of PPO and PPO-ptx, each with the paper's number (arXiv 2203.02155) or where it comes from instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatwright.config import check_above, check_least, check_share
from chatwright.engine import run as runs
from chatwright.engine.optim import OptimConfig
from chatwright.engine.schedule import ScheduleConfig
from chatwright.errors import ConfigError
from chatwright.model.lora import LoraConfig
from chatwright.model.precision import DeviceName, Precision
from chatwright.recipes.guards import GuardConfig


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How answers are sampled."""

    batch_size: int = 32
    """Answers (episodes) in one iteration. The paper: 512."""
    generate_batch: int = 64
    """Answers written at the same time; changes memory (the key-value cache) and speed, not the result."""
    max_new_tokens: int = 64
    """Longest answer in tokens."""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities are of the same distribution. The paper: 1."""
    eos_rule: Literal["none", "replace", "subtract"] = "subtract"
    """What an answer without a stop token earns: its score less the size of eos_penalty, or (`replace`) eos_penalty
    itself, which must then lie below the scores of bad answers that do end."""
    eos_penalty: float = -1.0
    """See eos_rule."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"--rollout.temperature {self.temperature}: PPO learns from samples; it must be above 0")
        check_least(self, "rollout", 1, "batch_size", "generate_batch", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class PPOAlgorithmConfig:
    """The objective. Values other than the paper's own are from Ziegler 2019 and N+ (arXiv 2403.17031)."""

    beta: float = 0.02
    """KL coefficient per token. The paper: 0.02."""
    kl_target: float | None = None
    """Nats per answer that an adaptive controller steers to; none: beta is fixed."""
    kl_horizon: int = 10_000
    """Episodes over which the adaptive controller moves."""
    gamma: float = 1.0
    """Discount. The paper: 1."""
    lam: float = 0.95
    """GAE lambda (not from the paper)."""
    clip: float = 0.2
    """Policy ratio clip. The paper: 0.2."""
    value_clip: float = 0.2
    """Value clip (not from the paper)."""
    critic_head: Literal["reward", "zeros"] = "reward"
    """What the critic's head starts as: the reward model's, so that values begin on the reward's scale (the paper: the
    value function is initialised from the RM), or zeros (N+). Zeros under rewards that are negative on average punish
    the last tokens most, the end of turn among them, until the critic has caught up: many iterations in a short run."""
    minibatch_size: int = 8
    """Answers in one optimiser step. The paper: 64."""
    inner_epochs: int = 1
    """Passes over each batch of answers. The paper: 1."""
    whiten_rewards: bool = False
    """Scale per-token rewards to unit variance, without moving their mean."""
    whiten_advantages: bool = True
    """Mean 0, variance 1 over the batch."""

    def __post_init__(self) -> None:
        check_least(self, "ppo", 0, "beta")
        check_least(self, "ppo", 1, "kl_horizon", "minibatch_size", "inner_epochs")
        check_above(self, "ppo", 0, "kl_target", "clip", "value_clip")
        check_share(self, "ppo", "gamma", "lam")


@dataclass(frozen=True, kw_only=True)
class PtxConfig:
    """Pre-training gradients mixed into PPO."""

    data: tuple[str, ...] = ()
    """Text files or JSON lines; empty switches ptx off."""
    gamma: float = 27.8
    """Weight of the ptx gradient. The paper: 27.8; which reduction stands behind it is not published."""
    reduction: Literal["mean", "sequence_sum"] = "mean"
    """mean: per token; sequence_sum: summed over each sequence, averaged over sequences."""
    per_episode: float = 8.0
    """ptx sequences for each answer. The paper: 8."""
    block_tokens: int = 128
    """Length of a ptx sequence in tokens."""
    held_out: int = 32
    """Sequences kept aside, at most a quarter of them; their loss is measured before and after."""

    def __post_init__(self) -> None:
        check_least(self, "ptx", 0, "gamma", "per_episode", "held_out")
        check_least(self, "ptx", 2, "block_tokens")


@dataclass(frozen=True, kw_only=True)
class PPOTrainConfig(runs.SaveConfig):
    """Length of the run."""

    steps: int = 10
    """PPO iterations (batches of answers). The paper: 500 (256k episodes)."""
    micro_tokens: int = 1024
    """Tokens that go through a model at once; changes memory and speed, not the result."""
    frozen_layers: int = 0
    """Blocks of policy and critic, from the bottom (embeddings with them), that are not trained. Where reference, critic
    and policy have the same ones, they are computed once for all three and for every pass."""
    ema: float = 0.0
    """Decay of a weight average that is exported instead of the raw weights; 0: none. The paper: 0.992."""

    def __post_init__(self) -> None:
        check_least(self, "train", 1, "steps", "micro_tokens")
        check_least(self, "train", 0, "frozen_layers")
        check_share(self, "train", "ema", whole=False)


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Raise a learned reward by PPO, kept near the reference by a KL penalty and to pre-training text by ptx."""

    model: str = "smollm2-135m-instruct"
    """Policy to start from: the SFT model (a run folder or any model folder)."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas. It is saved with the model."""
    reference: str = ""
    """KL reference; empty: the starting policy."""
    reward: tuple[str, ...]
    """Reward sources: a reward run folder, `python:module:function`, or an http(s) endpoint; `0.5*SOURCE` weighs one."""
    critic: str = ""
    """Reward folder the critic starts from; empty: the first reward folder."""
    data: tuple[str, ...]
    """Prompts, JSON lines."""
    out: str = "runs/ppo"
    """Run folder."""
    fresh: bool = False
    """Delete the run in `out` and start anew; without it, a run of other inputs or settings is refused."""
    seed: int = 0
    """Fixes prompts, samples and minibatches."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; masters and moments are fp32 always."""
    ignore_gate: bool = False
    """Run even when the reward model's report card forbids it."""
    train: PPOTrainConfig = PPOTrainConfig()
    """Length."""
    rollout: RolloutConfig = RolloutConfig()
    """Sampling."""
    ppo: PPOAlgorithmConfig = PPOAlgorithmConfig()
    """Objective."""
    ptx: PtxConfig = PtxConfig()
    """Pre-training mix."""
    optim: OptimConfig = OptimConfig(lr=1e-5)
    """Policy optimiser. The paper's policy rate is not published (above 8.05e-6 its runs diverged without ptx)."""
    critic_optim: OptimConfig = OptimConfig(lr=2e-5)
    """Critic optimiser. The paper: 9e-6."""
    schedule: ScheduleConfig = ScheduleConfig(kind="constant", warmup_steps=2, warmup_start=0.1)
    """Over iterations. The paper: constant after 10 warm-up iterations from a tenth."""
    guard: GuardConfig = GuardConfig()
    """Run-time invariants and limits."""
    lora: LoraConfig | None = None
    """Train low-rank adapters of policy and critic; the policy without its adapter is then the reference."""

    def __post_init__(self) -> None:
        if self.lora is not None and self.reference:
            raise ConfigError("--reference has no effect with --lora: the policy without its adapter is the reference")
        if self.lora is not None and self.lora.dropout:
            raise ConfigError("--lora.dropout: PPO runs without dropout, or old and new log-probabilities would differ")
