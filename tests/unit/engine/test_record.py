"""What a run was made from: content, not names. Changed content is refused, or replaced on request."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from chatwright.engine import run as runs
from chatwright.engine.checkpoint import atomic_folder
from chatwright.engine.record import INPUTS, Record, Source, Sources, files, folder_hash, model_source, open_output
from chatwright.engine.run import SaveConfig
from chatwright.errors import CheckpointError, ConfigError, DataError, RunChangedError


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section that is off by default."""

    rank: int = 8
    """A number."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a pretended run."""

    data: tuple[str, ...]
    """Files."""
    model: str = "smollm2-135m-instruct"
    """Model."""
    out: str = "r"
    """Folder."""
    fresh: bool = False
    """Start anew."""
    lr: float = 0.1
    """Rate."""
    ai_api_key: str = ""
    """A secret."""
    lora: Section | None = None
    """A section."""
    train: SaveConfig = field(default_factory=SaveConfig)
    """What is kept."""


OPENED: list[runs.Run] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        close(OPENED.pop())


def close(run: runs.Run) -> None:
    run.metrics.close()
    run._lock.close()


def sources(config: Config) -> Sources:
    return {"data": files(config.data), "model": model_source(config.model)}


def start(folder: Path, config: Config) -> Any:
    run = runs.start("sft", str(folder), config, config.train, sources(config))
    if isinstance(run, runs.Run):
        OPENED.append(run)
    return run


def train(folder: Path, config: Config, *, finish: bool = True) -> None:
    run = start(folder, config)
    for _ in run.steps(1, lambda: ({}, {})):
        run.metrics.log(1, {"loss": 1.0})
    if finish:
        run.finish({"data": run.record.hashes("data")}, lambda f: (f / "w.txt").write_text("w") and None)
    else:
        close(OPENED.pop())


def rows(path: Path, num: int) -> str:
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(num)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("finished", [True, False])
def test_other_content_under_the_same_name_is_refused_with_counts_and_both_ways_out(tmp_path: Path, finished: bool) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 40),))
    train(tmp_path / "r", config, finish=finished)
    rows(tmp_path / "d.jsonl", 60)
    with pytest.raises(RunChangedError) as refused:
        start(tmp_path / "r", config)
    message = str(refused.value)
    assert "--data" in message and "(60 lines, sha256 " in message and "was " in message and "(40 lines, " in message
    assert "--fresh" in message and "--out" in message and refused.value.exit_code == 2


@pytest.mark.parametrize("finished", [True, False])
def test_the_same_content_elsewhere_is_the_same_input(tmp_path: Path, finished: bool) -> None:
    train(tmp_path / "r", Config(data=(rows(tmp_path / "d.jsonl", 40),)), finish=finished)
    moved = rows(tmp_path / "elsewhere.jsonl", 40)
    os.utime(moved, (1, 1))
    (tmp_path / "d.jsonl").unlink()
    assert isinstance(start(tmp_path / "r", Config(data=(moved,), out="another/spelling")), dict) == finished


def test_fresh_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 40),))
    train(tmp_path / "r", config)
    (tmp_path / "r" / "notes.txt").write_text("mine")
    rows(tmp_path / "d.jsonl", 60)
    run = start(tmp_path / "r", replace(config, fresh=True))
    assert run.first_step == 0 and run.resumed is None
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        ".lock", "config.toml", INPUTS, "metrics.jsonl", "notes.txt",
    ]  # fmt: skip
    assert "fresh = false" in (tmp_path / "r" / "config.toml").read_text()


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("given", ["r", "r/final"])
def test_a_run_never_writes_over_the_model_that_it_reads(tmp_path: Path, given: str, fresh: bool) -> None:
    train(tmp_path / "r", Config(data=(rows(tmp_path / "d.jsonl", 4),)))
    kept = (tmp_path / "r" / "final" / "w.txt").read_bytes()
    with pytest.raises(ConfigError, match="--out .*/r: (would overwrite|is also)"):
        start(tmp_path / "r", Config(data=(str(tmp_path / given),), fresh=fresh))
    assert (tmp_path / "r" / "final" / "w.txt").read_bytes() == kept


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_folder_with_a_model_is_no_place_for_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text("{}")
    with pytest.raises(ConfigError, match="holds a model"):
        start(tmp_path / "m", Config(data=(rows(tmp_path / "d.jsonl", 4),)))
    assert [path.name for path in (tmp_path / "m").iterdir()] == [name]


@pytest.mark.parametrize("fresh", [True, False])
def test_an_output_file_never_replaces_an_input(tmp_path: Path, fresh: bool) -> None:
    path = Path(rows(tmp_path / "d.jsonl", 4))
    config = Config(data=(str(path),), out=str(path), fresh=fresh)
    made = Record.of("sample", config, {"data": files(config.data)})
    with pytest.raises(ConfigError, match=r"would overwrite --data .*d\.jsonl"):
        open_output(made, config, path, tmp_path / "d.jsonl.inputs.json", [path])
    assert len(path.read_text().splitlines()) == 4


def test_fresh_deletes_neither_a_run_of_another_kind_nor_a_folder_of_other_things(tmp_path: Path) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 4),), fresh=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "result.json").write_text("{}")
    start(tmp_path / "mine", config)
    assert (tmp_path / "mine" / "result.json").is_file()
    train(tmp_path / "r", config)
    with pytest.raises(RunChangedError, match="holds a sft run, not reward"):
        runs.start("reward", str(tmp_path / "r"), config, config.train, sources(config))
    assert (tmp_path / "r" / "final" / "w.txt").is_file()


def test_settings_that_differ_are_named_and_those_without_effect_are_not(tmp_path: Path) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 4),))
    train(tmp_path / "r", config)
    saving = SaveConfig(save_every_steps=7, keep_checkpoints=9)
    assert isinstance(start(tmp_path / "r", replace(config, train=saving, ai_api_key="k")), dict)
    with pytest.raises(RunChangedError, match=r"other settings \(--lr 0\.2, was 0\.1; --lora\.rank 8, was unset\)"):
        start(tmp_path / "r", replace(config, lr=0.2, lora=Section()))
    assert "api_key" not in (tmp_path / "r" / INPUTS).read_text()


def test_a_run_of_an_earlier_version_is_compared_by_its_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 4),), lora=Section())
    train(tmp_path / "r", config, finish=False)
    (tmp_path / "r" / INPUTS).unlink()
    text = (tmp_path / "r" / "config.toml").read_text()
    (tmp_path / "r" / "config.toml").write_text(text.replace("lr = 0.1\n", "").replace("save_every_minutes", "gone"))
    start(tmp_path / "r", config)  # what the file lacks had its default
    close(OPENED.pop())
    assert "did not note its inputs" in capfd.readouterr().err
    (tmp_path / "r" / INPUTS).unlink()
    with pytest.raises(RunChangedError, match=r"--lora\.rank unset, was 8"):
        start(tmp_path / "r", replace(config, lora=None))


def test_a_file_that_is_missing_is_named_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        start(tmp_path / "r", Config(data=("none.jsonl",)))
    assert not (tmp_path / "r").exists()


def test_a_finished_run_outlives_its_inputs_and_says_that_they_were_not_compared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 4),), model=str(tmp_path / "model"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    train(tmp_path / "r", config)
    (tmp_path / "d.jsonl").unlink()
    shutil.rmtree(tmp_path / "model")
    assert isinstance(start(tmp_path / "r", config), dict)
    assert "no longer at hand" in capfd.readouterr().err


def test_models_count_with_their_weights(tmp_path: Path) -> None:
    """A run folder by its manifest, a folder by its files, an adapter with its base, a known name by its pinned hash."""

    def identity(place: Path | str, kind: Any = "language") -> str:
        found = Record.of("sft", Config(data=()), {"model": [Source(place=str(place), kind=kind)]})
        return found.inputs["model"][0].sha256

    run = tmp_path / "run"
    for content in ("a", "b"):
        with atomic_folder(run / "final") as aside:
            (aside / "config.json").write_text("{}")
            (aside / "weights").write_text(content)
        if content == "a":
            first = identity(run)
            assert first == identity(run / "final") == folder_hash(run / "final")
    assert identity(run) != first
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text("{}")
    before = identity(plain)
    (plain / ".cache").write_text("hidden files do not count")
    assert identity(plain) == before
    (plain / "weights").write_text("a")
    assert identity(plain) != before
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(plain)}))
    before = identity(adapter)
    (plain / "weights").write_text("b")
    assert identity(adapter) != before
    assert identity("smollm2-135m-instruct") == identity("smollm2-135m-instruct") != identity("gemma-3-270m")


def test_a_corpus_counts_by_the_hashes_in_its_manifest_and_not_by_when_it_was_built(tmp_path: Path) -> None:
    manifest = {"dtype": "uint16", "document": {}, "tokenizer": {"sha256": "t"}, "splits": {"train": {"sha256": "a"}}}

    def built(**changes: Any) -> str:
        (tmp_path / "manifest.json").write_text(json.dumps(manifest | changes))
        return folder_hash(tmp_path)

    assert built(build={"seconds": 1}) == built(build={"seconds": 2}) != built(splits={"train": {"sha256": "b"}})


def test_functions_endpoints_and_packed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def identity(place: str) -> Any:
        return Record.of("ppo", Config(data=()), {"reward": [Source(place=place, kind="reward")]}).inputs["reward"][0]

    (tmp_path / "mine.py").write_text("def score(items): return [0.0] * len(items)\n")
    first = identity("python:mine:score").sha256
    (tmp_path / "mine.py").write_text("def score(items): return [1.0] * len(items)\n")
    assert identity("python:mine:score").sha256 != first
    assert identity("python:absent_module:score").sha256 and identity("http://127.0.0.1:9/score").sha256
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n' * 100))
    (packed,) = Record.of("x", Config(data=()), {"data": files(["d.jsonl.gz"])}).inputs["data"]
    assert packed.num_lines is None and packed.num_bytes and "bytes" in packed.words()


def test_order_number_and_weight_of_inputs_count(tmp_path: Path) -> None:
    a, b = rows(tmp_path / "a", 1), rows(tmp_path / "b", 2)
    (tmp_path / "reward").mkdir()

    def record(*names: str, weight: str = "") -> Record:
        reward = [Source(place=str(tmp_path / "reward"), kind="reward", prefix=weight)]
        return Record.of("x", Config(data=()), {"data": files(names), "reward": reward})

    assert record(a, b).changed_inputs(record(a, b)) == []
    assert len(record(a, b).changed_inputs(record(b, a))) == 2
    assert "was nothing" in record(a).changed_inputs(record())[0]
    assert record(a, weight="0.5*").changed_inputs(record(a, weight="2*"))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 4),))
    train(tmp_path / "r", config, finish=False)
    (tmp_path / "r" / INPUTS).write_text("{")
    with pytest.raises(CheckpointError, match=r"inputs\.json: cannot be read"):
        start(tmp_path / "r", config)


def test_outputs_that_are_files_have_their_record_beside_them(tmp_path: Path) -> None:
    config = Config(data=(rows(tmp_path / "d.jsonl", 4),))
    out, at = tmp_path / "s.jsonl", tmp_path / "s.jsonl.inputs.json"

    def opened(given: Config) -> None:
        open_output(Record.of("sample", given, sources(given)), given, out, at, [out])

    opened(config)
    out.write_text("{}\n")
    opened(config)
    assert out.exists()
    rows(tmp_path / "d.jsonl", 5)
    with pytest.raises(RunChangedError, match=r"s\.jsonl: holds a sample run with other inputs"):
        opened(config)
    opened(replace(config, fresh=True))
    assert not out.exists() and at.exists()
    rows(tmp_path / "d.jsonl", 6)
    opened(config)  # nothing was made: nothing to compare with
