"""A tiny bench for the recipes: data files, a model, an SFT run and a reward run, made once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny


@dataclass(frozen=True)
class Bench:
    """Paths, as people would give them, and settings that suit models of this size."""

    home: Path
    model: str
    demonstrations: str
    prompts: str
    rankings: str
    corpus: str
    tokenizer: Any

    def sft(self, out: Path | str, **changes: Any) -> Any:
        """SFT settings; `train`, `optim` and the like as dicts are filled in."""
        from chatwright.engine.optim import OptimConfig
        from chatwright.recipes.sft import SFTConfig, SFTTrainConfig

        train = SFTTrainConfig(**{"epochs": 30, **changes.pop("train", {})})
        optim = OptimConfig(**{"lr": 1e-2, **changes.pop("optim", {})})
        common: dict[str, Any] = {"model": self.model, "data": (self.demonstrations,), "out": str(out), **CPU}
        return SFTConfig(**{**common, "train": train, "optim": optim, **changes})

    def reward(self, out: Path | str, **changes: Any) -> Any:
        """Reward-model settings."""
        from chatwright.engine.optim import OptimConfig
        from chatwright.recipes.reward import RewardConfig, RewardTrainConfig

        train = RewardTrainConfig(**{"epochs": 3, "head_lr": 1e-2, **changes.pop("train", {})})
        optim = OptimConfig(**{"lr": 5e-3, **changes.pop("optim", {})})
        common: dict[str, Any] = {"model": self.model, "data": (self.rankings,), "out": str(out), **CPU}
        return RewardConfig(**{**common, "train": train, "optim": optim, **changes})

    def ppo(self, out: Path | str, **changes: Any) -> Any:
        """PPO settings; rewards and models must be given."""
        from chatwright.engine.optim import OptimConfig
        from chatwright.recipes import ppo_config as ppo
        from chatwright.recipes.guards import GuardConfig

        sections: dict[str, tuple[type, dict[str, Any]]] = {
            "train": (ppo.PPOTrainConfig, {"steps": 2}),
            "rollout": (ppo.RolloutConfig, {"batch_size": 16, "max_new_tokens": 10}),
            "ppo": (ppo.PPOAlgorithmConfig, {"minibatch_size": 8}),
            "ptx": (ppo.PtxConfig, {"block_tokens": 24, "held_out": 4, "per_episode": 0.25, "gamma": 0.5}),
            "optim": (OptimConfig, {"lr": 3e-3}),
            "critic_optim": (OptimConfig, {"lr": 3e-3}),
            "guard": (GuardConfig, {"max_kl_per_token": 10.0}),
        }
        made = {name: cls(**{**values, **changes.pop(name, {})}) for name, (cls, values) in sections.items()}
        common: dict[str, Any] = {"data": (self.prompts,), "out": str(out), **CPU}
        return ppo.PPOConfig(**{**common, **made, **changes})


CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}


class Opened:
    """Runs and metrics files that were opened. A recipe that raises leaves them to the end of its process."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.metrics: list[Any] = []

    def close(self) -> None:
        """What the end of the process does: files are closed, locks released."""
        for written in self.metrics:
            written.close()
        for run in self.runs:
            run._lock.close()


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """`opened.close()` lets a test go on with a run folder after an error; it happens at the end of every test anyhow."""
    from chatwright.engine import metrics, run

    found, start, init = Opened(), run.start, metrics.Metrics.__init__

    def recording_start(*args: Any, **kwargs: Any) -> Any:
        made = start(*args, **kwargs)
        found.runs += [made] if isinstance(made, run.Run) else []
        return made

    def recording_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        found.metrics.append(self)

    monkeypatch.setattr(run, "start", recording_start)
    monkeypatch.setattr(metrics.Metrics, "__init__", recording_init)
    yield found
    found.close()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Bench:
    """Model and data."""
    home = tmp_path_factory.mktemp("bench")
    tokenizer = make_tokenizer(chat_template=tiny.SHORT_JINJA)
    tiny.save_tiny_model(home / "model", tokenizer)
    (home / "corpus.txt").write_text(tiny.corpus_text(), encoding="utf-8")
    return Bench(
        home=home,
        model=str(home / "model"),
        demonstrations=str(tiny.write_rows(home / "demonstrations.jsonl", tiny.demonstration_rows())),
        prompts=str(tiny.write_rows(home / "prompts.jsonl", tiny.prompt_rows())),
        rankings=str(tiny.write_rows(home / "rankings.jsonl", tiny.ranking_rows(100))),
        corpus=str(home / "corpus.txt"),
        tokenizer=tokenizer,
    )


@pytest.fixture(scope="session")
def sft_run(bench: Bench) -> str:
    """A model that answers in the demonstrations' way and mostly stops by itself."""
    from chatwright.recipes import sft

    sft.main(bench.sft(bench.home / "sft", train={"epochs": 40}))
    return str(bench.home / "sft")


@pytest.fixture(scope="session")
def reward_run(bench: Bench, sft_run: str) -> str:
    """A reward model that likes "honey", gate open."""
    from chatwright.recipes import reward

    result = reward.main(
        bench.reward(bench.home / "reward", model=sft_run, demonstrations=(bench.demonstrations,))
    )
    assert result["gate"] is None
    return str(bench.home / "reward")
