"""`chatwright data export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatwright.cli import main
from chatwright.data.export_command import ExportConfig, export
from chatwright.data.importing import read_file
from chatwright.errors import DataError, UsageError
from chatwright.records import write_jsonl

ROWS = [
    {"prompt": "q", "completions": ["a", "b", "c"], "ranking": "C>A=B", "likert": [1, 2, 7]},
    {"prompt": "p", "completion": "x"},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "r"}]},
]


@pytest.fixture
def file(tmp_path: Path) -> str:
    write_jsonl(tmp_path / "own.jsonl", ROWS)
    return str(tmp_path / "own.jsonl")


def test_a_file_per_kind_and_a_line_per_reason(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["data", "export", file, "--format", "hh", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"wrote 2 rows to {out / 'rankings.jsonl'}" in printed
    for line in (
        "it cannot hold: ties", "left out: 1 x a pair of tied answers", "left out: 1 x a demonstration",
        "left out: 1 x a prompt without an answer", "not in the rows: 1 x the field likert",
    ):  # fmt: skip
        assert line in printed
    assert [path.name for path in out.iterdir()] == ["rankings.jsonl"]
    assert [r.completions for r in read_file(out / "rankings.jsonl").rankings] == [("c", "a"), ("c", "b")]


def test_from_any_format_to_any_other(file: str, tmp_path: Path) -> None:
    for n, target in enumerate(("argilla", "chatwright")):
        export(ExportConfig(files=(file,), format=target, out=str(tmp_path / str(n))))  # type: ignore[arg-type]
        assert read_file(tmp_path / str(n) / "demonstrations.jsonl").demonstrations[0].answer == "x"
    export(ExportConfig(files=(str(tmp_path / "0" / "rankings.jsonl"),), format="chatwright", out=str(tmp_path / "2")))
    (got,) = read_file(tmp_path / "2" / "rankings.jsonl").rankings
    assert str(got.order) == "C>A=B" and got.likert == (1, 2, 7)


def test_nothing_that_fits_and_damaged_rows_are_errors(file: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "demos.jsonl", [ROWS[1]])
    with pytest.raises(DataError, match="nothing fits into the format hh"):
        export(ExportConfig(files=(str(tmp_path / "demos.jsonl"),), format="hh", out=str(tmp_path / "x")))
    write_jsonl(tmp_path / "bad.jsonl", [*ROWS, {"prompt": "q", "completions": ["a", "b"], "ranking": "A>C"}])
    with pytest.raises(DataError, match="1 row is not usable"):
        export(ExportConfig(files=(str(tmp_path / "bad.jsonl"),), format="trl", out=str(tmp_path / "x")))
    with pytest.raises(UsageError, match="no file given"):
        export(ExportConfig(files=(), format="trl", out=str(tmp_path / "x")))
    assert not (tmp_path / "x").exists()


def test_labelled_answers_and_samples_are_written_or_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": "q", "completion": "bad", "label": False}, {"prompt": "q", "completions": ["a", "b"]},
        {"prompt": "q", "completion": "good", "label": 1},
    ]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for target, samples in (("trl", 0), ("chatwright", 1), ("trl-text", 0)):
        out = tmp_path / target
        assert main(["data", "export", str(tmp_path / "x.jsonl"), "--format", target, "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert ("left out: 1 x answers without a ranking" in said) == (samples == 0)
        assert [answer.good for answer in read_file(out / "labelled.jsonl").labelled] == [False, True]
        assert (out / "samples.jsonl").exists() == bool(samples)
    assert main(["data", "export", str(tmp_path / "x.jsonl"), "--format", "hh", "--out", str(tmp_path / "hh")]) == 1
    assert "2 x an answer marked good or bad" in capsys.readouterr().out
