"""The run file and the tutorial show the quickstart's own numbers."""

from __future__ import annotations

import re
import shlex
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from chatwright.commands import command_of
from chatwright.config import from_dict, parse, read_toml
from chatwright.pipeline import StageSettings, TeachConfig

TOP = Path(__file__).resolve().parents[2]
SAME = {
    "sft": {"train.epochs": "sft_epochs", "optim.lr": "sft_lr"},
    "sample": {"n": "answers", "max_new_tokens": "max_new_tokens"},
    "label": {"simulated.noise": "noise"},
    "reward": {"train.epochs": "reward_epochs", "optim.lr": "reward_lr", "eval.share": "reward_held_out"},
    "replay": {"num_texts": "replay_texts"},
    "ppo": {
        "train.steps": "ppo_steps",
        "rollout.batch_size": "ppo_batch",
        "rollout.max_new_tokens": "max_new_tokens",
        "optim.lr": "ppo_lr",
        "critic_optim.lr": "critic_lr",
        "ppo.beta": "beta",
        "ptx.gamma": "ptx_gamma",
        "ptx.per_episode": "ptx_per_episode",
    },
    "evaluate": {"samples": "eval_samples", "max_new_tokens": "eval_max_new_tokens"},
}


def run_file() -> dict[str, Any]:
    path = TOP / "recipes" / "quickstart.toml"
    found = {}
    for stage in read_toml(path)["stage"]:
        name = stage.pop("command")
        found[name] = from_dict(command_of(name, where="")[1], stage, where=f"{path.name}: {name}")
    return found


def tutorial() -> dict[str, Any]:
    text = (TOP / "docs" / "tutorial" / "museum.md").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in re.findall(r"^chatwright (.*)$", text, flags=re.MULTILINE):
        name, *flags = shlex.split(line)
        if name in SAME:
            found[name] = parse(command_of(name, where="")[1], flags, prog=name)
    return found


@pytest.mark.parametrize("source", [run_file, tutorial])
def test_numbers_are_those_of_the_quickstart(source: Any) -> None:
    stages = source()
    assert set(stages) == set(SAME)
    for name, settings in SAME.items():
        for key, ours in settings.items():
            value = reduce(getattr, key.split("."), stages[name])
            assert value == getattr(StageSettings(), ours), f"{source.__name__}: {name}: {key}"
    default_system = next(f.default for f in TeachConfig.__dataclass_fields__.values() if f.name == "system")
    assert stages["sft"].system == default_system
