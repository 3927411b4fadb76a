"""Runs whose data change under their name, and passes that are passes (cases T01, T11, T15; use.md F2)."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.data.pretrain_corpus import write_corpus
from chatwright.data.sft import load_examples
from chatwright.records import load_demonstrations
from chatwright.text.tokenizer import Tokenizer

INPUTS = Path(__file__).parent / "inputs"
pytestmark = pytest.mark.timeout(600)  # chains of runs: minutes on a machine that is busy
CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def home(tmp_path: Path, make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.save_tiny_model(tmp_path / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def take(home: Path, name: str, to: str = "data.jsonl") -> None:
    shutil.copyfile(INPUTS / f"demonstrations_{name}.jsonl", home / to)


@pytest.mark.parametrize("num", [9, 1])
def test_t01_two_epochs_are_two_passes(home: Path, num: int) -> None:
    take(home, str(num))
    train = ("--train.epochs", "2", "--train.batch-size", "8")
    assert cli.main(["sft", "--model", "model", "--data", "data.jsonl", "--out", "run", *CPU, *train]) == 0
    tokenizer = Tokenizer.from_folder(home / "model").with_default_system("")
    examples = load_examples(load_demonstrations("data.jsonl"), tokenizer, max_tokens=2048)
    rows = tiny.read_rows(home / "run" / "metrics.jsonl")
    assert sum(row["tokens"] for row in rows) == 2 * sum(len(example.ids) for example in examples)


def test_t11_data_that_change_while_a_run_is_interrupted_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(home, "40")
    command = ["sft", "--model", "model", "--data", "data.jsonl", "--out", "run", *CPU, "--train.epochs", "1000"]
    process = tiny.start_cli(home, *command)
    metrics = home / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while (not metrics.is_file() or not metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate()
    take(home, "60")
    assert cli.main(command) == 2
    refused = capsys.readouterr().err
    assert "--data data.jsonl (60 lines, sha256" in refused and "was data.jsonl (40 lines, sha256" in refused
    assert "--fresh" in refused and "--out" in refused and "Traceback" not in refused
    command[-1] = "1"
    assert cli.main([*command, "--fresh"]) == 0
    result = json.loads((home / "run" / "result.json").read_text())
    assert result["examples"] == 60 and result["steps"] == 8
    take(home, "40")
    take(home, "60", to="copy.jsonl")
    command[command.index("data.jsonl")] = "copy.jsonl"
    assert cli.main(command) == 0, "the same content under another path"


CHAIN = """
[[stage]]
command = "sft"
model = "model"
data = ["data.jsonl"]
out = "chain/1-sft"
train = {{ epochs = {epochs} }}

[[stage]]
command = "sample"
model = "chain/1-sft"
data = ["prompts.jsonl"]
out = "chain/2-samples.jsonl"
n = 2
max_new_tokens = 8

[[stage]]
command = "label"
data = ["chain/2-samples.jsonl"]
out = "chain/3-rankings.jsonl"

[[stage]]
command = "dpo"
model = "chain/1-sft"
data = ["rankings.jsonl"]
out = "chain/4-dpo"
train = {{ steps = {steps} }}
"""


@pytest.mark.slow  # twelve processes
def test_t15_a_finished_stage_of_a_chain_sees_that_its_data_have_changed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    museum = tiny.SRC / "chatwright" / "bundled" / "museum" / "en"
    take(home, "40")
    tiny.write_rows(home / "prompts.jsonl", tiny.read_rows(museum / "prompts.jsonl")[:4])
    tiny.write_rows(home / "rankings.jsonl", tiny.ranking_rows(12))
    (home / "chain.toml").write_text(CHAIN.format(epochs=1, steps=1))
    assert cli.main(["run", "chain.toml"]) == 0
    folders = ("1-sft/final", "4-dpo/final")
    before = {name: tiny.tensor_hashes(home / "chain" / name) for name in folders}
    assert cli.main(["run", "chain.toml"]) == 0
    assert before == {name: tiny.tensor_hashes(home / "chain" / name) for name in folders}

    take(home, "60")
    capsys.readouterr()
    assert cli.main(["run", "chain.toml"]) == 2
    refused = capsys.readouterr().err
    assert "chain/1-sft: holds a sft run with other inputs (--data data.jsonl (60 lines" in refused
    assert before == {name: tiny.tensor_hashes(home / "chain" / name) for name in folders}, "nothing is lost"

    assert cli.main(["run", "chain.toml", "--fresh"]) == 0
    anew = capsys.readouterr().err
    assert anew.count("It is made anew") >= 3, anew
    after = {name: tiny.tensor_hashes(home / "chain" / name) for name in folders}
    assert after["1-sft/final"] != before["1-sft/final"] and after["4-dpo/final"] != before["4-dpo/final"]

    (home / "chain.toml").write_text(CHAIN.format(epochs=1, steps=2))
    assert cli.main(["run", "chain.toml"]) == 2
    assert "other settings (--train.steps 2, was 1)" in capsys.readouterr().err
    assert cli.main(["run", "chain.toml", "--fresh"]) == 0
    assert capsys.readouterr().err.count("It is made anew") == 1, "the stages before it are kept"
    assert tiny.tensor_hashes(home / "chain" / "1-sft" / "final") == after["1-sft/final"]


@pytest.mark.parametrize(
    "command",
    ["sft --data BAD --model MODEL", "reward BAD --model MODEL", "dpo --data BAD --model MODEL",
     "embed-train --data BAD --model MODEL", "pretrain --data CORPUS --context 100000",
     "sft --data GOOD --model nothing", "ppo --data BAD --model MODEL --reward MODEL", "sft --data EMPTY --model MODEL",
     "tokenizer train nothing", "tokenizer train EMPTY", "teach BAD --model MODEL", "teach GOOD --model nothing",
     "evaluate --models a=nothing --data GOOD --judge rubric", "export nothing", "quickstart --model nothing",
     "data import BAD", "corpus build nothing --tokenizer MODEL"],
)  # fmt: skip
def test_a_run_that_fails_before_its_first_step_leaves_no_folder(
    tmp_path: Path, command: str, make_tokenizer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings of a run without a step are worth nothing; what somebody put into a folder stays."""
    bad = tiny.write_rows(tmp_path / "bad.jsonl", [{"neither": "prompt"}])
    good = tiny.write_rows(tmp_path / "good.jsonl", tiny.demonstration_rows())
    model = tiny.save_tiny_model(tmp_path / "model", make_tokenizer(chat_template=tiny.SHORT_JINJA))
    write_corpus(tmp_path / "corpus", make_tokenizer(), ["some text " * 30] * 3, ["some text"])
    (tmp_path / "empty.jsonl").touch()
    places = {"BAD": bad, "GOOD": good, "MODEL": model, "CORPUS": tmp_path / "corpus", "EMPTY": tmp_path / "empty.jsonl"}
    words = [str(places.get(word, word)) for word in command.split()]
    device = [] if words[0] in ("tokenizer", "export", "data", "corpus") else ["--device", "cpu"]
    for out in (tmp_path / "new", tmp_path / "old"):
        if out.name == "old":
            out.mkdir()
            (out / "notes.txt").write_text("mine", encoding="utf-8")
        assert cli.main([*words, "--out", str(out), *device]) != 0
    assert not (tmp_path / "new").exists(), list((tmp_path / "new").iterdir())
    assert (tmp_path / "old" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "command",
    ["sample --data BAD --model MODEL", "sample --data GOOD --model nothing", "label --data BAD", "replay --model nothing",
     "bestofn --data BAD --model MODEL --reward MODEL"],
)  # fmt: skip
def test_a_failed_command_that_writes_a_file_leaves_no_folder_and_no_record(
    tmp_path: Path, command: str, make_tokenizer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_rows(tmp_path / "BAD", [{"neither": "prompt"}])
    tiny.write_rows(tmp_path / "GOOD", tiny.prompt_rows())
    tiny.save_tiny_model(tmp_path / "MODEL", make_tokenizer(chat_template=tiny.SHORT_JINJA))
    before = sorted(tmp_path.iterdir())
    for out in ("new/below/answers.jsonl", "answers.jsonl"):
        assert cli.main([*command.split(), "--out", out]) != 0
        assert sorted(tmp_path.iterdir()) == before
