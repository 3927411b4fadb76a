"""`chatwright moderation train|check` on small made-up files, and on the real ones where they are."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from chatwright import cli
from chatwright.errors import ConfigError, DataError, RunChangedError
from chatwright.serve.moderation.classifier import Classifier
from chatwright.serve.moderation.commands import CheckConfig, TrainConfig, check, train
from chatwright.serve.moderation.sources import held_out, read_labelled, read_texts, read_turns

THINGS = ["花园", "天气", "学校", "音乐", "电影", "新闻", "城市", "朋友"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    ends = ("的人都很友好", "的人都是垃圾")
    rows = "".join(f"train,race,{n % 2},{THINGS[n % 8]}{n}{ends[n % 2]}\n" for n in range(160))
    (tmp_path / "zh.csv.gz").write_bytes(gzip.compress(("\ufeffsplit,topic,label,TEXT\n" + rows).encode()))
    dialogues = [
        {"chosen": f"\n\nHuman: how do i {('thank', 'kill')[n % 2]} him {n}?\n\nAssistant: No.\n\nHuman: you {w} {n}"}
        for n, w in enumerate(["idiot", "are kind"] * 40)
    ]
    (tmp_path / "hh.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dialogues))
    (tmp_path / "bad.txt").write_text("".join(f"Give instructions for poisoning well number {n}\n" for n in range(40)))
    safe = [json.dumps({"prompt": f"What is the height of hill {n}?"}) + "\n" for n in range(80)]
    (tmp_path / "safe.jsonl").write_text("".join(safe))
    return {path.name.split(".")[0]: str(path) for path in tmp_path.iterdir()}


def test_train_and_check(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    card = train(
        TrainConfig(
            out=str(out), chinese=(files["zh"],), dialogues=(files["hh"],), harmful=(files["bad"],), safe=(files["safe"],)
        )
    )
    assert [(head["category"], head["language"]) for head in card["heads"]] == [
        ("offensive", "zh"), ("offensive", "en"), ("harmful_request", "en")
    ]  # fmt: skip
    assert cli.main(["moderation", "check", "--model", str(out), "--text", "那里的人都是垃圾"]) == 0
    assert "FLAGGED" in capsys.readouterr().out
    result = check(
        CheckConfig(model=str(out), labelled=(files["zh"],), safe=(files["safe"],), harmful=(files["bad"],))
    )
    assert result["labelled by people"]["zh.csv.gz"]["macro_f1"] > 0.95
    assert result["harmless"]["safe.jsonl"]["flagged"] <= 0.05
    held = [text for text in read_texts(files["bad"]) if held_out(text.lower(), 0.3)]
    assert 0 < len(held) < 40 and result["harmful, held out"]["bad.txt"]["texts"] == len(held)
    assert result["harmful, held out"]["bad.txt"]["flagged"] == 1
    written = (out / "card.md").read_text(encoding="utf-8")
    assert "zh.csv.gz: macro-F1" in written and "Known weaknesses" in written and "race" in written
    again = tmp_path / "again"
    train(TrainConfig(out=str(again), chinese=(files["zh"],)))
    assert Classifier.load(again).judge("花园5的人都很友好").flagged == {"offensive": False, "harmful_request": False}


def test_bad_files_and_settings_are_named(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("TEXT,label\nhello,2\n")
    with pytest.raises(DataError, match=r"x\.csv:2: label"):
        read_labelled(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="TEXT and label"):
        read_labelled(tmp_path / "y.csv")
    (tmp_path / "z.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="chosen"):
        read_turns(tmp_path / "z.jsonl")
    with pytest.raises(DataError, match="there are none"):
        read_texts(tmp_path / "z.jsonl")
    for wrong in ({"chinese": ("x",), "harmful": ("y",)}, {"chinese": ("x",), "held_out": 1.0}):
        with pytest.raises(ConfigError):
            TrainConfig(out="x", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing to train on"):
        train(TrainConfig(out=str(tmp_path / "out")))
    with pytest.raises(ConfigError, match="nothing to check"):
        check(CheckConfig(model="x"))
    assert not (tmp_path / "out").exists()


def test_a_classifier_of_other_data_is_refused_and_replaced_on_request(files: dict[str, str], tmp_path: Path) -> None:
    config = TrainConfig(out=str(tmp_path / "model"), chinese=(files["zh"],))
    card = train(config)
    assert train(config)["seconds"] == card["seconds"], "complete"
    text = gzip.decompress(Path(files["zh"]).read_bytes()) + "train,race,1,又一个垃圾\n".encode()
    Path(files["zh"]).write_bytes(gzip.compress(text))
    with pytest.raises(RunChangedError, match=r"other inputs \(--chinese .*zh\.csv\.gz"):
        train(config)
    assert train(replace(config, fresh=True))["data"] != card["data"]
