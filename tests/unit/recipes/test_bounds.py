"""Numbers out of bounds are refused before a file or a model is read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from chatwright import cli
from chatwright.recipes.ppo_config import PPOAlgorithmConfig

TRAINED = ("sft", "reward", "dpo", "embed-train")
OPTIMISED = ("optim.lr=-1", "optim.lr=nan", "optim.beta1=1", "optim.weight-decay=-1", "schedule.warmup-steps=-1")
PASSES = ("train.batch-size=0", "train.micro-tokens=0", "train.max-tokens=0", "train.steps=-1")
CASES = [
    *((command, flag) for command in TRAINED for flag in (*PASSES, *OPTIMISED, "train.batch-size=-3")),
    *((command, "train.epochs=0") for command in TRAINED[:3]),
    *((command, "train.frozen-layers=-1") for command in ("sft", "reward", "ppo", "embed-train")),
    *(("ppo", flag) for flag in (*OPTIMISED, "critic-optim.lr=-1", "train.steps=0", "train.micro-tokens=0", "train.ema=1")),
    *(("ppo", f"ppo.{flag}") for flag in ("minibatch-size=0", "inner-epochs=0", "gamma=2", "lam=-1", "clip=0", "beta=-1")),
    *(("ppo", flag) for flag in ("rollout.batch-size=0", "rollout.max-new-tokens=0", "ptx.block-tokens=0", "ptx.gamma=-1")),
    *(("sft", flag) for flag in ("train.dropout=1", "mix.block-tokens=0", "mix.share=1", "select.max-new-tokens=0")),
    *(("reward", flag) for flag in ("eval.share=1", "eval.share=-0.1", "train.head-lr=-1")),
    *(("dpo", flag) for flag in ("train.beta=0", "train.held-out-share=1")),
    *(("embed-train", flag) for flag in ("train.batch-size=1", "train.temperature=0", "eval.share=1", "layers=-1")),
    *(("pretrain", flag) for flag in ("train.steps=-1", "train.dropout=2", "optim.lr=-1", "size.width=-1", "depth=0")),
    *((command, "batch-size=0") for command in ("sample", "bestofn", "replay", "evaluate")),
    *((command, "max-new-tokens=0") for command in ("sample", "bestofn", "replay", "evaluate")),
    *(("sample", flag) for flag in ("n=0", "temperature=-1", "top-p=0", "top-k=-1")),
    *(("evaluate", flag) for flag in ("samples=0", "temperature=-1")),
    ("bestofn", "n=0"),
    ("replay", "num-texts=0"),
]
UNBOUNDED = PPOAlgorithmConfig(clip=math.inf, value_clip=math.inf)  # no clipping
READ = {
    "ppo": "--data nothing.jsonl --model nothing --reward nothing",
    "bestofn": "--data nothing.jsonl --model nothing --reward nothing",
    "evaluate": "--data nothing.jsonl --models a=nothing",
    "pretrain": "--data nothing",
    "replay": "--model nothing",
}


@pytest.mark.parametrize(("command", "flag"), CASES)
def test_a_number_out_of_bounds_is_refused_first(
    command: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files and models named do not exist: an error about them would show that they were opened first."""
    monkeypatch.chdir(tmp_path)
    name, _, value = flag.partition("=")
    read = READ.get(command, "--data nothing.jsonl --model nothing").split()
    code = cli.main([command, *read, "--out", "out", f"--{name}", value])
    said = capsys.readouterr().err
    assert code == 2 and name.rpartition(".")[2] in said and "nothing" not in said
    assert not list(tmp_path.iterdir())
