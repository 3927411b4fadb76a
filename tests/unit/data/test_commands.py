"""`data check`, `data import` and `show-mask` as the CLI calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatwright import cli
from chatwright.records import load_demonstrations, load_prompts, load_rankings
from chatwright.text.tokenizer import Tokenizer

ROWS = [
    {"prompt": "q1", "completions": ["long answer", "short"], "ranking": "A>B", "labeller_kind": "simulated"},
    {"prompt": "q2", "completions": ["a", "b", ""], "ranking": "A=B", "unranked": ["C"]},
    {"prompt": "q2", "completions": ["a", "b", ""], "ranking": "B>A", "unranked": "C"},
    {"prompt": "q3", "completions": ["aa", "b"], "ranking": "B>A", "finish_reason": ["length", "stop"]},
]


def _file(folder: Path, name: str, rows: list[Any]) -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder / name)


def test_check_reports_what_matters_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", _file(tmp_path, "r.jsonl", ROWS)]) == 0
    out = capsys.readouterr().out
    for line in (
        "format chatwright, utf-8, 4 rows = 4 used + 0 left out + 0 damaged",
        "rankings: 4 of 3 prompts, 1 exact duplicates",
        "answers per ranking: K = 2: 2, K = 3: 2",
        "kind of labeller: not stated 3, simulated 1",
        "pairs: 4, of them 3 strict; rankings with a tie: 1, all tied: 1",
        "tie share: 0.250 of all pairs",
        "the longer answer wins 0.500 of strict pairs: length baseline 0.500",
        "unranked answers: 2",
        "answers cut at a token limit: 1",
        "empty answers: 2",
        "length of answers: 0 to 11 characters",
    ):
        assert line in out, f"{line!r} is not in\n{out}"


def test_check_lists_bad_rows_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"prompt": "q", "completions": ["a", "b"], "ranking": "A>D"}
    assert cli.main(["data", "check", _file(tmp_path, "r.jsonl", [*ROWS, bad, "x", bad]), "--show", "2"]) == 1
    captured = capsys.readouterr()
    assert "7 rows = 4 used + 0 left out + 3 damaged" in captured.out
    assert "r.jsonl:5: ranking: 'D' is not one of the letters A..B" in captured.out
    assert "... and 1 more bad rows" in captured.out
    assert captured.err.startswith("chatwright data check: error: 3 bad rows, 4 good")


def test_check_of_raw_text_and_of_foreign_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = _file(tmp_path, "c.jsonl", [{"text": "once"}, {"text": "upon"}])
    foreign = _file(tmp_path, "f.jsonl", [{"instruction": "q", "output": "a"}])
    assert cli.main(["data", "check", corpus, foreign]) == 0
    out = capsys.readouterr().out
    assert "used: 2 rows as documents" in out and f"chatwright data import {foreign} --out" in out
    assert out.count("data import") == 1


def test_import_writes_one_file_per_kind_and_counts_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"prompt": "q", "chosen": "y", "rejected": n} for n in ("n", "y", "no")]
    alpaca = [{"instruction": "q", "output": "a"}, {"instruction": "q", "output": 3}]
    files = [
        _file(tmp_path, "p.jsonl", pairs),
        _file(tmp_path, "a.jsonl", alpaca),
        _file(tmp_path, "t.jsonl", ["why?"]),
    ]
    assert cli.main(["data", "import", *files, "--out", str(tmp_path / "out")]) == 0
    assert len(load_rankings(tmp_path / "out" / "rankings.jsonl")) == 2
    assert len(load_demonstrations(tmp_path / "out" / "demonstrations.jsonl")) == 1
    assert len(load_prompts(tmp_path / "out" / "prompts.jsonl")) == 1
    out = capsys.readouterr().out
    assert "left out: 1 x both answers are equal" in out and "2 rows = 1 used + 0 left out + 1 damaged" in out
    assert "a.jsonl:2: output: must be a text, not a number" in out


def test_import_of_nothing_fails_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = _file(tmp_path, "p.jsonl", [{"prompt": "q", "chosen": "y", "rejected": "y"}])
    corpus = _file(tmp_path, "c.jsonl", [{"text": "once"}])
    for file, message in ((same, "both answers are equal"), (corpus, "raw text, which needs no import")):
        assert cli.main(["data", "import", file, "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_format_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _file(tmp_path, "p.jsonl", [{"prompt": "q", "chosen": "y", "rejected": "n"}])
    assert cli.main(["data", "import", file, "--from", "trl", "--out", str(tmp_path / "out")]) == 0
    assert cli.main(["data", "import", file, "--from", "hh", "--out", str(tmp_path / "other")]) == 1
    assert "p.jsonl:1: chosen: must be" in capsys.readouterr().err
    assert cli.main(["data", "import", file, "--from", "magic", "--out", str(tmp_path / "out")]) == 2
    assert cli.main(["data", "check"]) == 2


@pytest.fixture
def model_folder(tmp_path: Path, tokenizer: Tokenizer) -> str:
    tokenizer.save(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return str(tmp_path / "model")


def test_show_mask_marks_the_answer_and_its_end(
    tmp_path: Path, model_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = [{"role": "user", "content": "Why <|im_end|>?"}, {"role": "assistant", "content": "So 🍎."}]
    file = _file(tmp_path, "d.jsonl", [{"messages": messages}] * 2)
    assert cli.main(["show-mask", file, "--model", model_folder, "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("<|im_start|>user\nWhy <|im_end|>?<|im_end|>\n<|im_start|>assistant\n[[So 🍎.<|im_end|>]]\n")
    assert cli.main(["show-mask", file, "--model", model_folder, "--rows", "1", "--tokens"]) == 0
    lines = capsys.readouterr().out.splitlines()
    trained = [line for line in lines if " trained " in line]
    assert trained[-1].split()[1:] == ["trained", "control", "'<|im_end|>'"]
    assert sum(line.endswith("'<|im_end|>'") for line in lines) == 3, "the typed one is no control token"


def test_show_mask_of_prompts_says_that_nothing_is_trained(
    tmp_path: Path, model_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["show-mask", _file(tmp_path, "p.jsonl", [{"prompt": "q"}]), "--model", model_folder]) == 1
    assert "nothing in it is trained on" in capsys.readouterr().err
    assert cli.main(["show-mask", _file(tmp_path, "r.jsonl", ROWS), "--model", model_folder, "--rows", "9"]) == 0
    assert "10 conversations" in capsys.readouterr().out
