"""Settings of the chains: what `teach` and `quickstart` are given, and the dials of their stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from chatwright.errors import ConfigError

Language = Literal["en", "zh"]
DEFAULT_MODEL = "smollm2-135m-instruct"
CHINESE_MODEL = "qwen2.5-coder-0.5b-instruct"
"""The default model speaks no Chinese; this opt-in one does (fetched from an unofficial re-upload, hash-pinned)."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """Size dials of the chain. Everything finer is set in the stage's own command and a `run` file."""

    sft_epochs: int = 2
    """Passes over the demonstrations."""
    sft_lr: float = 1e-4
    """Peak learning rate of SFT."""
    rank_prompts: int = 0
    """Prompts whose answers are ranked, from the shuffled list; 0: all of them. PPO always uses all."""
    answers: int = 4
    """Answers sampled per prompt for ranking."""
    max_new_tokens: int = 80
    """Longest answer in tokens while sampling and in PPO."""
    reward_epochs: int = 2
    """Passes over the rankings."""
    reward_lr: float = 1.5e-4
    """Peak learning rate of the reward model."""
    reward_batch: int = 4
    """Rankings in one step of the reward model."""
    frozen_layers: int = 0
    """Blocks from the bottom that no stage trains, embeddings with them: all models of the chain then share them."""
    reward_held_out: float = 0.25
    """Share of prompts kept aside for the report card."""
    judge_share: float = 0.34
    """Share of the ranked prompts kept from the training reward, for a second reward model that judges at the end. Its cost
    is in `seconds_by_stage`. None is trained at 0, with fewer than 60 ranked prompts, with an AI judge, or on simulated
    labels, which their rubric judges."""
    ppo_steps: int = 8
    """PPO iterations."""
    ppo_batch: int = 32
    """Answers per PPO iteration."""
    ppo_lr: float = 7e-5
    """Policy learning rate."""
    critic_lr: float = 8e-5
    """Critic learning rate."""
    beta: float = 0.05
    """KL coefficient."""
    ptx_gamma: float = 0.5
    """Weight of the ptx gradient (mean per token); 0 switches ptx off."""
    ptx_per_episode: float = 0.125
    """ptx sequences per answer."""
    replay_texts: int = 48
    """Replay texts sampled from the base model when no corpus is given."""
    lora_rank: int | None = None
    """Rank of LoRA adapters in SFT, reward model and PPO; 0: all weights are trained; none: 16 for a model of more than
    300 million parameters, else 0."""
    lora_rate_scale: float = 4.0
    """With adapters, the rates of SFT, reward model, policy and critic are multiplied by this: adapters need higher ones."""
    noise: float = 0.14
    """Share of strict pairs the simulated labeller turns round."""
    eval_questions: int = 0
    """Held-out questions used, the first ones; 0: all."""
    eval_samples: int = 4
    """Answers per held-out question at temperature 1."""
    eval_max_new_tokens: int = 96
    """Longest answer in the evaluation."""

    def __post_init__(self) -> None:
        if not 2 <= self.answers <= 9:
            raise ConfigError(f"--stages.answers {self.answers}: a ranking has 2 to 9 answers")
        if not 0.0 <= self.reward_held_out < 1.0 or not 0.0 <= self.noise <= 0.5:
            raise ConfigError("--stages: reward-held-out must be at least 0 and below 1, noise from 0 to 0.5")
        counts = ("sft_epochs", "max_new_tokens", "reward_epochs", "reward_batch", "ppo_steps", "ppo_batch")
        for name in (*counts, "replay_texts", "eval_samples", "eval_max_new_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--stages.{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")


@dataclass(frozen=True, kw_only=True)
class TeachConfig:
    """Teach a model your house's ways: demonstrations, prompts and rankings in; an aligned model and its report out."""

    model: str = DEFAULT_MODEL
    """Named model, Hugging Face name, or folder to start from."""
    demonstrations: tuple[str, ...]
    """Your demonstrations, JSON lines: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}."""
    prompts: tuple[str, ...] = ()
    """Further prompts to sample answers for; the demonstrations' own prompts are always used."""
    rankings: tuple[str, ...] = ()
    """Your rankings; with them nothing is sampled for labelling."""
    questions: tuple[str, ...] = ()
    """Held-out questions for the evaluation; empty: a tenth of the prompts is kept aside."""
    labeller: Literal["simulated", "ai", "human"] = "human"
    """Who ranks when --rankings is empty. human: tasks are written, the chain waits for the file of rankings."""
    ai_base_url: str = ""
    """An OpenAI-compatible endpoint: compares the models at the end, and ranks with --labeller ai."""
    ai_model: str = ""
    """Its model. The key: JUDGE_API_KEY, or a file named by JUDGE_API_KEY_FILE."""
    corpus: tuple[str, ...] = ()
    """Text for ptx; empty: replay text sampled from the base model."""
    system: str = ""
    """System message the taught model speaks under when a conversation has none ("": no system turn). The base model's
    own is not kept: it gives another's name."""
    language: Language = "en"
    """Language of the simulated labeller's rubric and of the report's first page."""
    out: str = "runs/teach"
    """Folder of the whole chain."""
    fresh: bool = False
    """Train the stages whose inputs or settings have changed, and those after them, anew; without it they are refused."""
    seed: int = 0
    """Fixes everything that is drawn."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Compute format."""
    ignore_gate: bool = False
    """Go on to PPO even when the report card forbids it."""
    stages: StageSettings = StageSettings()
    """Size dials."""


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """`teach` on the bundled children's museum, with a simulated labeller. Every label says so."""

    language: Language = "en"
    """en, or zh with a model that speaks Chinese."""
    model: str = ""
    """Empty: the embedded English model; --language zh needs a multilingual one named."""
    out: str = "runs/quickstart"
    """Folder of the whole chain."""
    fresh: bool = False
    """Train the stages whose inputs or settings have changed, and those after them, anew; without it they are refused."""
    seed: int = 0
    """Fixes everything that is drawn."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Compute format."""
    ignore_gate: bool = False
    """Go on to PPO even when the report card forbids it."""
    stages: StageSettings = StageSettings(frozen_layers=10, rank_prompts=248, eval_questions=60)
    """Size dials."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Run the stages of a TOML file, in order: [[stage]] tables with `command` and that command's settings."""

    file: tyro.conf.Positional[str]
    """Run file, see recipes/*.toml."""
    fresh: bool = False
    """Train the stages whose inputs or settings have changed, and those after them, anew; without it they are refused."""
