"""Standard input, pipes, and UTF-16 without a byte order mark as sources of rows; flat Open-Assistant tables."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatwright import cli
from chatwright.data.importing import read_file
from chatwright.engine.record import file_hash
from chatwright.errors import DataError
from chatwright.jsonl import read_lines

ROWS = [{"prompt": f"Why {n}?", "completion": f"Because of {n}."} for n in range(3)]
CHINESE = [{
    "prompt": "为什么天是蓝的？请用一句话回答。",
    "completion": "因为大气中的分子散射的是波长较短的蓝光，所以我们看到的天是蓝的。",
}]  # fmt: skip
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize("command", ["data import - --out out", "data check -", "data import /dev/stdin --out out"])
def test_standard_input_is_read(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(LINES)))
    assert cli.main(command.split()) == 0
    assert "3 used" in capsys.readouterr().out
    if "import" in command:
        assert len((tmp_path / "out" / "demonstrations.jsonl").read_text().splitlines()) == 3


def test_a_named_pipe_is_read_once_and_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(LINES + b"{\n",))
    writer.start()
    found = read_file(pipe)
    writer.join()
    assert len(found.demonstrations) == 3 and str(found.bad[0]).startswith(f"{pipe}:4: ")


def test_training_on_a_pipe_is_refused_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe or a device, which can be read only once; save it to a file"):
        file_hash(tmp_path / "pipe")


def test_a_device_is_no_file_of_rows() -> None:
    with pytest.raises(DataError, match="/dev/null: is a device"):
        read_file("/dev/null")


@pytest.mark.parametrize("rows", [ROWS, CHINESE])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "txt"])
def test_utf_16_without_a_mark(tmp_path: Path, rows: list[dict[str, str]], encoding: str, form: str) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = {
        "jsonl": "\n".join(lines) + "\n",
        "json": json.dumps(rows, ensure_ascii=False),
        "csv": "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in rows),
        "txt": "".join(f"{row['prompt']}\n" for row in rows),
    }[form]
    path = tmp_path / f"x.{form}"
    path.write_bytes(text.encode(encoding))
    found = read_file(path)
    assert found.encoding == encoding and not found.bad
    assert len(found.prompts if form == "txt" else found.demonstrations) == len(rows)


def test_training_names_utf_16_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES.decode().encode("utf-16-le"))
    (_, error), *_ = read_lines(path)
    assert "UTF-16" in str(error) and "save the file as UTF-8" in str(error)


MESSAGES = [
    ("r", None, "Why?", "prompter", None, False),
    ("a", "r", "Because.", "assistant", 0.0, False),
    ("b", "r", "No.", "assistant", 1.0, False),
    ("c", "r", "", "assistant", None, True),
    ("s", None, "How?", "prompter", None, False),
]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_flat_open_assistant_table_is_read_like_its_json_lines(tmp_path: Path, delimiter: str) -> None:
    names = ("message_id", "parent_id", "text", "role", "rank", "deleted")
    with open(tmp_path / "x.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([names, *MESSAGES])
    rows = [dict(zip(names, message, strict=True)) for message in MESSAGES]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table, lines = (read_file(tmp_path / f"x.{form}") for form in ("csv", "jsonl"))
    assert table.format == lines.format == "oasst-flat" and not table.bad
    assert table.rankings == lines.rankings and len(table.rankings) == 1
    assert table.prompts == lines.prompts and table.demonstrations == lines.demonstrations
