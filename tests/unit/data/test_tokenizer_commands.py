"""`tokenizer train` and `tokenizer report`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import chatwright
from chatwright import cli
from chatwright.data.corpus_build.compression import compression
from chatwright.text.tokenizer import Tokenizer
from corpus_texts import article, write_rows
from tiny_models import tiny_model


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "texts.jsonl", [article(n, chinese=n % 2 == 0) for n in range(40)], field="body")


def test_train_and_load(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tokenizer"
    assert (
        cli.main(["tokenizer", "train", str(texts), "--text-field", "body", "--vocab-size", "400", "--out", str(out)]) == 0
    )
    assert "400 entries, from 40 documents" in capsys.readouterr().out
    tokenizer = Tokenizer.from_folder(out)
    assert tokenizer.decode(tokenizer.encode(article(3))) == article(3)
    assert len(tokenizer.encode(article(3))) < 0.6 * len(article(3))
    assert json.loads((out / "training.json").read_text())["documents"] == 40


def test_a_model_with_it_loads_and_talks(texts: Path, tmp_path: Path) -> None:
    from chatwright.model.formats.huggingface import save_folder

    out = tmp_path / "model"
    cli.main(["tokenizer", "train", str(texts), "--text-field", "body", "--kind", "characters", "--out", str(out)])
    tokenizer = Tokenizer.from_folder(out)
    save_folder(tiny_model("llama", tokenizer.vocab_size), out, tokenizer=tokenizer)
    lm = chatwright.load(str(out))
    assert lm.tokenizer.fingerprint == tokenizer.fingerprint


def test_a_part_of_much_text_is_drawn_evenly(tmp_path: Path) -> None:
    file = tmp_path / "big.txt"
    file.write_text("".join(f"{n % 10} line {n} of many\n" for n in range(200_000)))
    assert cli.main(["tokenizer", "train", str(file), "--documents", "line", "--max-mb", "1", "--vocab-size", "300",
                     "--out", str(tmp_path / "t")]) == 0  # fmt: skip
    about = json.loads((tmp_path / "t" / "training.json").read_text())
    assert 0.8 < about["megabytes"] <= 1.1 and about["documents"] > 35_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "x"], "no file given"),
        (["train", "absent.txt", "--out", "x"], "there is no such file"),
        (["train", "TEXTS", "--out", "x"], "no row could be read; the first"),
        (["report", "--tokenizer", "x"], "no file given"),
    ],
)
def test_errors(arguments: list[str], message: str, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(texts) if word == "TEXTS" else word for word in arguments]
    assert cli.main(["tokenizer", *given]) in (1, 2)
    assert message in capsys.readouterr().err


def test_report(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tokenizer"
    cli.main(["tokenizer", "train", str(texts), "--text-field", "body", "--kind", "characters", "--out", str(out)])
    capsys.readouterr()
    command = ["tokenizer", "report", str(texts), "--text-field", "body", "--tokenizer", str(out), "--beside", "qwen"]
    assert cli.main([*command, "--json"]) == 0
    rows = {row["language"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {"zh", "en", "all"} and rows["zh"]["documents"] == rows["en"]["documents"] == 20
    for row in rows.values():
        ours, qwen = row["tokenizers"][str(out)], row["tokenizers"]["qwen"]
        assert ours["characters_per_token"] == 1.0 and ours["tokens"] == row["characters"]
        assert qwen["tokens"] == round(row["bytes"] / qwen["bytes_per_token"], -2) or qwen["tokens"] < row["bytes"]
    assert rows["all"]["tokenizers"]["qwen"]["tokens"] == sum(rows[n]["tokenizers"]["qwen"]["tokens"] for n in ("zh", "en"))
    assert cli.main(command) == 0
    assert "| zh | 20 |" in capsys.readouterr().out


def test_compression_of_nothing() -> None:
    assert compression(["", " "], ["qwen"]) == []
