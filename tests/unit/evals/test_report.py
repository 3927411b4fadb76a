from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chatwright.evals.charts import Series, line_chart, smoothed, ticks
from chatwright.evals.report import html, print_table, write_html
from chatwright.evals.report_card import report_card
from chatwright.evals.report_words import COLUMNS, MODEL_NAMES, PART_NAMES, WORDS
from chatwright.records import Ranking, WeakOrder, user


def row(**changed: Any) -> dict[str, Any]:
    figures = {"gold_mean": 0.512, "gold_low": 0.48, "gold_high": 0.55, "fk_grade": 3.94, "distinct_2": 0.71}
    return figures | {"words_mean": 33.0, "ended_share": 0.975, "kl_nats_per_token": None, "path": "runs/x"} | changed


def report() -> dict[str, Any]:
    return {
        "seconds": 643.2,
        "peak_rss_bytes": 6 * 2**30,
        "models": {"base": row(fk_grade=9.7), "sft": row(), "ppo": row(kl_nats_per_token=0.11)},
        "win_rates": {"ppo_vs_base": {"rate": 0.93, "low": 0.9, "high": 0.96, "n": 1024}},
        "reward_model": {"accuracy": 0.71, "length_baseline": 0.55, "ece": 0.08, "tie_nll": 0.9, "path": "runs/r"},
    }


def card() -> dict[str, Any]:
    random = np.random.default_rng(0)
    truth = random.normal(size=(30, 4))
    rankings = [
        Ranking(messages=user(f"q{n}"), completions=("a", "b", "c", "d"), order=WeakOrder.from_scores(t.tolist(), 0.3))
        for n, t in enumerate(truth)
    ]
    scores = (truth + random.normal(size=truth.shape)).tolist()
    return report_card(rankings, scores, scores, tie_mode="davidson", tie_param=-1.0, accuracy_ceiling=0.85, draws=50)


def full() -> dict[str, Any]:
    labels = {"rankings": 160, "pairs": 960, "tie_share": 0.2, "flip_share": 0.15, "accuracy_ceiling": 0.85}
    answer = {
        "text": "<script>alert(1)</script> & you",
        "ended": False,
        "gold": 0.4,
        "parts": {"topic": 0.5, "plain": 0},
    }
    return {
        "report": report(),
        "greedy": {"ppo": row()},
        "labels": labels,
        "card": card(),
        "curves": {
            "sft": [{"step": n, "loss": 3 / n} for n in range(1, 60)],
            "reward": [{"step": n, "loss": 0.6, "accuracy": 0.7} for n in range(1, 5)],
            "ppo": [
                {"step": n, "reward": float(n), "kl_per_token": 0.01 * n, "kl_per_answer": 0.3 * n, "gold": 0.5}
                for n in range(1, 9)
            ],
        },
        "frontier": [{"name": "sft", "kl_nats": 0.0, "gold": 0.5}],
        "ptx": {"source": "replay", "loss_before": 2.31, "loss_after": 2.33},
        "targets": [{"name": ("time", "用时"), "value": "13 min", "goal": "<= 12 min", "met": False}],
        "answers": [{"question": f"What is {n}?", "models": {"base": answer, "my <model>": answer}} for n in range(9)],
        "run": {"model": "smollm2", "seed": 1, "command": "chatwright quickstart"},
        "notes": ["plain note"],
    }


class Checker(HTMLParser):
    """Every tag is closed in order, nothing is loaded from outside, no script."""

    VOID = {"meta", "input"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert not {"script", "link", "img", "iframe"} & set(checker.tags)
    assert "http" not in page and "url(" not in page and "@import" not in page
    return checker


def test_full_report_is_well_formed_and_self_contained() -> None:
    page = html(full())
    tags = check(page).tags
    assert tags.count("svg") >= 10
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; you" in page
    assert "my &lt;model&gt;" in page
    for said in (
        "simulated",
        "模拟",
        "85.0%",
        "2.310",
        "replay",
        "3 more questions",
        "cut at the token limit",
        "plain note",
    ):
        assert said in page, said


def test_only_the_report_is_needed() -> None:
    page = html({"report": report()})
    check(page)
    assert "simulated" not in page
    assert "93%" in page and "10 min 43 s" in page


def test_both_languages_are_switched_without_script() -> None:
    english, chinese = html(full()), html(full() | {"language": "zh"})
    assert re.search(r'id="lang-en" checked', english) and '<html lang="en">' in english
    assert re.search(r'id="lang-zh" checked', chinese) and '<html lang="zh-CN">' in chinese
    assert english.count('class="en"') == english.count('class="zh"')
    assert "prefers-color-scheme: dark" in english


def test_every_word_has_both_languages() -> None:
    for table in (WORDS, COLUMNS, MODEL_NAMES, PART_NAMES):
        for name, (english, chinese) in table.items():
            assert bool(english) == bool(chinese), name
            assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", chinese)), name
            assert not re.search(r"[\u4e00-\u9fff]", english), name


def test_a_closed_gate_is_shown() -> None:
    data = full()
    reasons = {
        "the reward model is no better than length: 0.5": "并不比只看长度更好",
        "the reward model may be no better than length: 0.5": "请增加排序数据",
        "too few to tell: 3 held-out prompts": "无法判断",
        "the reward model gives all answers": "什么都没学到",
    }
    for gate, chinese in reasons.items():
        data["card"] = data["card"] | {"gate": gate}
        page = html(data)
        assert gate in page and chinese in page
    assert page.index("PPO was run although") < page.index('class="tiles"')  # said before the figures
    assert "PPO was run although" not in html(full() | {"card": full()["card"] | {"gate": None}})


def test_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_html(full(), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == html(full())
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_plain_table_when_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    print_table(report(), out)
    text = out.getvalue()
    assert "\x1b" not in text
    for said in ("base", "0.512 [0.48, 0.55]", "97.5%", "0.110", "ppo preferred to base: 0.930 [0.900, 0.960]",
                 "6.0 GiB", "accuracy 0.710, length baseline 0.550"):  # fmt: skip
        assert said in text
    assert text.splitlines()[1].startswith("base ") and text.splitlines()[3].endswith("0.110")


def test_colour_only_on_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    print_table(report(), coloured)
    assert "\x1b" in coloured.getvalue() and "0.512" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    print_table(report(), plain)
    assert "\x1b" not in plain.getvalue()


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(1, 12, whole=True) == [3.0, 6.0, 9.0, 12.0]
    assert ticks(0.001, 0.0013)[0] >= 0.001
    assert all(-3 <= tick <= 7 for tick in ticks(-3, 7))


def test_charts_survive_empty_constant_and_unfinite_series() -> None:
    def one(ys: list[float]) -> Series:
        return Series(name=("n", "名"), xs=[float(n) for n in range(len(ys))], ys=ys)

    assert line_chart([one([])], x=("x", "x"), y=("y", "y")) == ""
    assert line_chart([one([float("nan")])], x=("x", "x"), y=("y", "y")) == ""
    check(line_chart([one([2.0, 2.0])], x=("x", "x"), y=("y", "y")))
    drawn = line_chart([one([1.0, float("inf"), 3.0])], x=("x", "x"), y=("y", "y"))
    check(drawn)
    assert drawn.count("<circle") == 2 and "nan" not in drawn


def test_smoothing_keeps_length_and_constants() -> None:
    assert smoothed([2.0] * 7, 5) == [2.0] * 7
    assert smoothed([0.0, 3.0, 0.0], 3) == [1.5, 1.0, 1.5]
