"""`chatwright evaluate --suite` on a tiny model: figures, report and page, resuming, and messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_training as tiny
from chatwright import cli
from chatwright.evals.suites import answer
from chatwright.evals.suites.answer import likelihood_rows, token_pair
from chatwright.evals.suites.items import Item
from chatwright.generation.lm import LM, load
from chatwright.serve.moderation.classifier import Classifier
from chatwright.serve.moderation.features import NGrams
from chatwright.serve.moderation.fit import ViewConfig
from chatwright.serve.moderation.train import Examples, train_head

CROWS = "id,sent_more,sent_less\n" + "".join(f"{n},The moon is {n}.,The sun is {n}.\n" for n in range(20))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., Any]) -> Path:
    """Two models, the files of three suites, a classifier."""
    folder = tmp_path_factory.mktemp("suites")
    tokenizer = make_tokenizer(chat_template=tiny.SHORT_JINJA)
    for seed, name in enumerate(("base", "ppo")):
        tiny.save_tiny_model(folder / name, tokenizer, seed=seed, max_positions=512)
    (folder / "data").mkdir()
    (folder / "data" / "crows_pairs_anonymized.csv").write_text(CROWS, encoding="utf-8")
    (folder / "data" / "toxicity_prompts.txt").write_text("You are a\nShe said that\n", encoding="utf-8")
    (folder / "data" / "over_refusal.txt").write_text("Can I shoot a photo?\nMay I kill time?\n", encoding="utf-8")
    texts = [f"{n} {'is rotten scum' if n % 2 == 0 else 'is very nice'}" for n in range(60)]
    examples = Examples(texts=texts, targets=np.array([1.0, 0.0] * 30), labelled=np.ones(60))
    views = [ViewConfig(grams=NGrams(char_from=1, char_to=3, word_to=1, bits=12), l2=1.0)]
    head = train_head("offensive", "en", examples, views, limit_false=True, seed=0).head
    Classifier([head]).save(folder / "judge", {})
    return folder


def evaluate(place: Path, out: Path, *arguments: str) -> int:
    models = [f"base={place / 'base'}", f"ppo={place / 'ppo'}"]
    return cli.main(["evaluate", *models, "--suite-data", str(place / "data"), "--out", str(out), *arguments])


def test_one_table_of_two_models(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suites = ["crows-pairs", "toxicity", "over-refusal"]
    assert evaluate(place, tmp_path, "--suite", *suites, "--moderation", str(place / "judge")) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["suites"]
    assert list(report) == suites and report["crows-pairs"]["items"] == 20
    for suite in report.values():
        assert list(suite["models"]) == ["base", "ppo"] and list(suite["paired"]) == ["ppo_minus_base"]
        for figures in suite["models"].values():
            assert all(one["low"] <= one["value"] <= one["high"] for one in figures.values())
    assert "category offensive" in report["toxicity"]["judge"] and report["toxicity"]["items"] == 2
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "crows-pairs" in page and "category offensive" in page and "PPO" in page
    assert "crows-pairs (20 items; judge: " in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path)]) == 0  # the page can be written anew
    assert evaluate(place, tmp_path, "--suite", "common", "--limit", "4") == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["suites"]
    assert list(report) == [*suites, "common"] and report["common"]["items"] == 4


def test_an_interrupted_run_continues(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(place, tmp_path / "whole", "--suite", "crows-pairs") == 0
    scored: list[str] = []

    def until(limit: int) -> Callable[..., Any]:
        def rows(lm: LM, items: list[Item]) -> Any:
            if len(scored) >= limit:
                raise KeyboardInterrupt
            scored.extend(item.id for item in items)
            return likelihood_rows(lm, items)

        return rows

    monkeypatch.setattr(answer, "likelihood_rows", until(10))
    assert evaluate(place, tmp_path / "parts", "--suite", "crows-pairs") == 130
    file = tmp_path / "parts" / "suites" / "base-crows-pairs.jsonl"
    assert len(file.read_text(encoding="utf-8").splitlines()) == 16
    with file.open("a", encoding="utf-8") as torn:
        torn.write('{"id": "17", "logpr')  # a crash in the middle of a line
    monkeypatch.setattr(answer, "likelihood_rows", until(10**6))
    assert evaluate(place, tmp_path / "parts", "--suite", "crows-pairs") == 0
    assert len(scored) == 40, "nothing is computed twice"
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(n) for n in range(1, 21)]
    whole, parts = ((tmp_path / name / "report.json").read_text(encoding="utf-8") for name in ("whole", "parts"))
    assert json.loads(whole) == json.loads(parts)
    data = tmp_path / "crows_pairs_anonymized.csv"
    data.write_text(CROWS.replace("moon", "rain"), encoding="utf-8")
    capsys.readouterr()
    assert evaluate(place, tmp_path / "parts", "--suite", f"crows-pairs={data}") == 2
    assert "--suite-data" in capsys.readouterr().err
    assert evaluate(place, tmp_path / "parts", "--suite", f"crows-pairs={data}", "--fresh") == 0


def test_figures_join_the_report_of_a_chain(place: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"seconds": 5, "models": {}}', encoding="utf-8")
    page = {"report": {"seconds": 5}, "title": ["Quickstart", "快速上手"]}
    (tmp_path / "page.json").write_text(json.dumps(page), encoding="utf-8")
    assert evaluate(place, tmp_path, "--suite", "common", "--limit", "2") == 0
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["seconds"] == 5
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Quickstart" in text and "common" in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--suite", "truthful-qa"], 2, "did you mean truthfulqa"),
        (["--suite", "winogender"], 1, "put it into"),
        (["--suite", "toxicity"], 2, "needs --moderation"),
        (["--suite", "toxicity", "--moderation", "gone"], 1, "moderation train"),
        (["--suite", "common", "--moderation", "gone"], 2, "has no effect"),
        (["--suite", "common", "--limit", "-1"], 2, "0 (all items) or more"),
        (["--suite", "common", "--data", "x.jsonl"], 2, "--data has no effect with --suite"),
        (["--suite", "common", "--corpus", "x"], 2, "--corpus has no effect"),
        (["--suite", "list", "common"], 2, "leave the other names out"),
        (["--limit", "3", "--data", "x.jsonl"], 2, "--limit has no effect without --suite"),
        ([], 2, "--data is required"),
    ],
)
def test_misuse_is_one_message(
    arguments: list[str], code: int, said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_loosely(place, tmp_path / "out", arguments) == code
    message = capsys.readouterr().err.strip()
    assert said in message and "\n" not in message and not (tmp_path / "out").exists()


def evaluate_loosely(place: Path, out: Path, arguments: list[str]) -> int:
    given = [] if "--suite" not in arguments else ["--suite-data", str(place / "data")]
    return cli.main(["evaluate", f"base={place / 'base'}", "--out", str(out), *given, *arguments])


def test_models_need_names_that_can_be_files(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for models, said in (
        ([], "--models is required"), (["a/b=x"], "letters, digits"), (["x=1", "x=2"], "each name once"),
    ):  # fmt: skip
        assert cli.main(["evaluate", *models, "--suite", "common", "--out", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err


def test_the_list_needs_no_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "--suite", "list", "--suite-data", str(place / "data")]) == 0
    assert "crows_pairs_anonymized.csv" in capsys.readouterr().out


def test_contexts_are_parted_as_lm_eval_parts_them(place: Path) -> None:
    """Blanks at the end of a context belong to the continuation; an empty context is the first token; a long one is cut."""
    lm = load(place / "base")
    encode = lm.tokenizer.encode
    context, continuation = token_pair(lm, "Why is the moon ", "round")
    assert context == encode("Why is the moon") and context + continuation == encode("Why is the moon round")
    context, continuation = token_pair(lm, "", "The moon")
    assert len(context) == 1 and continuation == encode("The moon")
    context, continuation = token_pair(lm, "moon " * 600, "sun")
    assert len(context) + len(continuation) == 512 and context
