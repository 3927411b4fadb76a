"""Interrupted and resumed equals straight through, bit for bit (reliability R3): every command that trains.

The first leg is a process of its own, killed by SIGKILL or stopped by SIGINT at a random point; the same command run
again must end with the same weights, optimiser states, metrics and result as a run that nobody touched.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.data.pretrain_corpus import write_corpus
from chatwright.engine.checkpoint import CheckpointStore, verify_folder
from chatwright.errors import CheckpointError
from chatwright.text.bpe import train_bpe

STEPS = 20
COMMON = (
    "--device", "cpu", "--train.steps", str(STEPS), "--train.save-every-steps", "2",
    "--train.keep-checkpoints", "99", "--optim.lr", "3e-3",
)  # fmt: skip
COMMANDS: dict[str, tuple[str, ...]] = {
    # Dropout draws from torch's generator; the held-out loss and the mixed-in text have cursors of their own.
    "sft": ("--model", "{home}/model", "--data", "{home}/demos.jsonl", "--train.batch-size", "3", "--train.dropout", "0.1",
            "--mix.data", "{home}/corpus.txt", "--mix.block-tokens", "16", "--mix.share", "0.25",
            "--eval-data", "{home}/demos.jsonl"),
    "reward": ("--model", "{home}/sft", "--data", "{home}/rankings.jsonl", "--demonstrations", "{home}/demos.jsonl"),
    "ppo": ("--model", "{home}/sft", "--reward", "{home}/reward", "--data", "{home}/prompts.jsonl", "--ignore-gate",
            "--rollout.batch-size", "8", "--rollout.max-new-tokens", "8", "--ptx.data", "{home}/corpus.txt",
            "--ptx.block-tokens", "16", "--ptx.per-episode", "0.3", "--ptx.gamma", "0.5", "--ptx.held-out", "4",
            "--ppo.kl-target", "1", "--ppo.kl-horizon", "50", "--train.ema", "0.9", "--guard.max-kl-per-token", "99",
            "--guard.min-answer-tokens", "0", "--guard.min-entropy", "0", "--guard.max-clip-fraction", "1"),
    "pretrain": ("--data", "{home}/corpus", "--depth", "2", "--size.width", "32", "--size.heads", "2", "--context", "32",
                 "--objective", "mixed", "--train.batch-tokens", "96", "--train.micro-tokens", "64",
                 "--train.dropout", "0.1", "--train.ema-decay", "0.9", "--held-out.every-steps", "7",
                 "--sample.every-steps", "5",
                 "--sample.max-new-tokens", "4", "--spikes.memory-steps", "3"),
    "dpo": ("--model", "{home}/sft", "--data", "{home}/rankings.jsonl"),
    "embed-train": ("--model", "{home}/sft", "--data", "{home}/pairs.jsonl", "--dimensions", "48", "16",
                    "--train.micro-tokens", "64", "--train.batch-size", "6", "--attention", "both"),
}  # fmt: skip
COMMANDS = {name: (*argv, "--precision", "fp32") for name, argv in COMMANDS.items()} | {
    # Compute weights in bf16 are rounded copies of the masters that the checkpoint holds; an adapter is fp32 throughout.
    "sft bf16": (*COMMANDS["sft"], "--precision", "bf16"),
    "ppo lora bf16": (*COMMANDS["ppo"], "--precision", "bf16", "--lora.rank", "4", "--lora.alpha", "8"),
}


class Bench:
    """Data, models, and what each command gives when nobody interrupts it."""

    def __init__(self, home: Path, tokenizer: Any) -> None:
        self.home = home
        self.straight: dict[str, dict[str, Any]] = {}
        # Untied: the reward model's and the critic's output matrix never gets a gradient.
        tiny.save_tiny_model(home / "model", tokenizer, kind="llama-untied")
        tiny.write_rows(home / "demos.jsonl", tiny.demonstration_rows())
        tiny.write_rows(home / "prompts.jsonl", tiny.prompt_rows())
        tiny.write_rows(home / "rankings.jsonl", tiny.ranking_rows(30))
        tiny.write_rows(home / "pairs.jsonl", [
            {"query": row["prompt"], "passage": row["completion"], "source": "ab"[n % 2], "group": f"g{n // 2}"}
            for n, row in enumerate(tiny.demonstration_rows(30))
        ])  # fmt: skip
        text = tiny.corpus_text()
        write_corpus(home / "corpus", train_bpe([text], 300), [text, text], [text[:200]])
        (home / "corpus.txt").write_text(tiny.corpus_text(), encoding="utf-8")
        for argv in (
            ("sft", "--model", f"{home}/model", "--data", f"{home}/demos.jsonl", "--train.epochs", "30"),
            ("reward", "--model", f"{home}/sft", "--data", f"{home}/rankings.jsonl"),
        ):
            made = ("--out", f"{home}/{argv[0]}", "--optim.lr", "1e-2", "--device", "cpu", "--precision", "fp32")
            assert cli.main([*argv, *made]) == 0

    def argv(self, command: str, out: Path) -> list[str]:
        settings = [value.format(home=self.home) for value in COMMANDS[command]]
        return [command.split()[0], *settings, "--out", str(out), *COMMON]

    def expected(self, command: str) -> dict[str, Any]:
        """The uninterrupted run, once per command."""
        if command not in self.straight:
            out = self.home / f"straight-{command.replace(' ', '-')}"
            self.straight[command] = self.finish(command, out)
        return self.straight[command]

    def finish(self, command: str, out: Path) -> dict[str, Any]:
        """Run to the end in this process; everything that must be equal. Checkpoints are kept for the comparison."""
        with checkpoints_kept():
            assert cli.main(self.argv(command, out)) == 0
        verify_folder(out)
        verify_folder(out / "final")
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        return {
            "weights": tiny.tensor_hashes(out / "final"),
            "metrics": tiny.read_rows(out / "metrics.jsonl"),
            "rollouts": tiny.read_rows(out / "rollouts.jsonl") if command.startswith("ppo") else [],
            "result": {name: value for name, value in result.items() if name not in ("seconds", "path", "train_seconds")},
            "checkpoints": {p.name: tiny.tensor_hashes(p) for p in out.glob("checkpoints/step-*") if is_whole(p)},
        }

    def compare(self, command: str, out: Path) -> None:
        """`out` continues to its end and is then what the straight run is."""
        found, expected = self.finish(command, out), self.expected(command)
        for name in ("weights", "metrics", "rollouts", "result"):
            assert found[name] == expected[name], name
        # Optimiser moments, averages and generator states too, wherever both wrote a checkpoint.
        common = found["checkpoints"].keys() & expected["checkpoints"].keys()
        assert all(found["checkpoints"][step] == expected["checkpoints"][step] for step in common)


def is_whole(checkpoint: Path) -> bool:
    """False for one that was being deleted when a finished run was killed."""
    try:
        verify_folder(checkpoint)
    except CheckpointError:
        return False
    return True


@contextmanager
def checkpoints_kept() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CheckpointStore, "clear", lambda self: None)
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Bench:
    return Bench(tmp_path_factory.mktemp("resume"), make_tokenizer(chat_template=tiny.SHORT_JINJA))


def rows_written(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else -1


def interrupt(bench: Bench, command: str, out: Path, number: int, after_rows: int, delay: float) -> subprocess.Popen[str]:
    """Start the command and send it a signal `delay` seconds after it has logged that many steps (-1: at once)."""
    process = tiny.start_cli(bench.home, *bench.argv(command, out))
    try:
        deadline = time.monotonic() + 60
        while rows_written(out) < after_rows and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(number)
        process.wait(30)
    finally:
        process.kill()
        process.stderr_text = process.communicate()[1]  # type: ignore[attr-defined]
    return process


def interrupted(bench: Bench, command: str, folder: Path, number: int, after_rows: int) -> tuple[str, Path]:
    """(what it said, run folder) of a run stopped before its last step: on a busy machine the signal may come late."""
    for attempt in range(5):
        out = folder / str(attempt)
        process = interrupt(bench, command, out, number, after_rows, delay=0.0)
        if rows_written(out) < STEPS:
            assert process.returncode == (130 if number == signal.SIGINT else -number)
            return " ".join(process.stderr_text.split()), out  # type: ignore[attr-defined]
    raise AssertionError("the run was over before the signal, five times")


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_run_again_equals_straight_through(bench: Bench, tmp_path: Path, command: str) -> None:
    expected = bench.expected(command)
    _, out = interrupted(bench, command, tmp_path, signal.SIGKILL, after_rows=5)
    assert not (out / "final").exists()
    bench.compare(command, out)
    assert len(expected["metrics"]) == STEPS and len(expected["checkpoints"]) >= STEPS // 2 - 1


@pytest.mark.parametrize("command", ["sft", "ppo"])
def test_ctrl_c_saves_exits_130_and_goes_on(bench: Bench, tmp_path: Path, command: str) -> None:
    said, out = interrupted(bench, command, tmp_path, signal.SIGINT, after_rows=3)
    assert f"{command}: stopped after step" in said and "run a training command again" in said
    assert "Traceback" not in said
    (newest,) = sorted((out / "checkpoints").glob("step-*"))[-1:]
    assert int(newest.name[5:]) == rows_written(out) >= 3
    bench.compare(command, out)


def test_two_damaged_checkpoints_cost_steps_but_not_the_result(bench: Bench, tmp_path: Path) -> None:
    """R4 through the command: each is named and refused, the one before them is used."""
    _, out = interrupted(bench, "sft", tmp_path, signal.SIGKILL, after_rows=8)
    saved = sorted((out / "checkpoints").glob("step-*"))
    assert len(saved) >= 3
    weights = saved[-1] / "state-00000.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (saved[-2] / "meta.json").unlink()
    bench.compare("sft", out)


def test_a_full_disk_is_one_message_and_nothing_is_lost(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R5: no file may grow beyond 20 kB for a while, so metrics are written and checkpoints are not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        code = cli.main(bench.argv("sft", tmp_path / "r"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert code == 1 and "step-000002: cannot be written" in error and "free space and run again" in error
    assert "Traceback" not in error and "unexpected" not in error
    assert not [path for path in (tmp_path / "r").rglob("*") if path.name.endswith((".tmp", ".old"))]
    bench.compare("sft", tmp_path / "r")


KILLS = [(command, n) for command in ("pretrain", "sft", "reward", "ppo") for n in range(25)]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "n"), KILLS, ids=[f"{command}-{n}" for command, n in KILLS])
def test_a_hundred_kills(bench: Bench, tmp_path: Path, command: str, n: int) -> None:
    """100 of 100: before the first step, in the middle of one, while saving, while finishing; a third are killed twice."""
    random = Random(f"{command} {n}")
    for _ in range(2 if n % 3 == 0 else 1):
        after_rows, delay = random.randint(-1, STEPS), random.choice((0.0, random.uniform(0, 0.1)))
        interrupt(bench, command, tmp_path / "r", signal.SIGKILL, after_rows, delay)
    bench.compare(command, tmp_path / "r")
