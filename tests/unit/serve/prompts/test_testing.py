"""Prompt tests with a stand-in for the model whose answers depend on the wording, so the winner is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from chatwright.errors import ConfigError
from chatwright.serve.prompts import commands
from chatwright.serve.prompts.assertions import Assertions
from chatwright.serve.prompts.suite import Suite, load_suite
from chatwright.serve.prompts.testing import Answer, run_suite, summary

FILE = """
name = "t"
models = ["m"]
[all]
max_words = 3
[[variant]]
name = "good"
prompt = "{{q}} Short!"
[[variant]]
name = "bad <b>"
prompt = "{{q}}"
"""


def suite_file(path: Path, cases: int = 12, extra: str = "") -> Path:
    rows = "".join(f'[[case]]\nname = "c{n}"\nvalues = {{ q = "Why {n}?" }}\n' for n in range(cases))
    path.write_text(FILE + rows + extra, encoding="utf-8")
    return path


class Model:
    """Short answers to whoever asks for them; counts what it was asked."""

    def __init__(self, stop_after: int = 1000) -> None:
        self.asked, self.stop_after = 0, stop_after

    def __call__(self, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[list[Answer]]:
        if self.asked >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += len(conversations)
        return [
            [Answer(text="Short & sweet." if "Short" in c[-1]["content"] else "This one goes on and on.", finished=True)]
            for c in conversations
        ]


def test_the_better_wording_wins(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path / "t.toml"))
    found = summary(suite, run_suite(suite, ["m"], tmp_path / "out", lambda name: Model()), ["m"], draws=200)["m"]
    assert found["best"] == "good" and found["clear"] and found["win_rates"]["bad <b>"]["rate"] == 1
    assert found["variants"]["good"]["score"] == 1 and found["variants"]["bad <b>"]["passed"] == 0


def test_equal_wordings_have_no_clear_winner(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "t.toml")
    path.write_text(path.read_text().replace("{{q}} Short!", "{{q}} Please."))
    suite = load_suite(path)
    assert not summary(suite, run_suite(suite, ["m"], tmp_path / "o", lambda name: Model()), ["m"], draws=200)["m"]["clear"]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path / "t.toml"))
    first, second, third = Model(stop_after=8), Model(), Model()
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite, ["m"], tmp_path / "out", lambda name: first)
    with open(tmp_path / "out" / "answers.jsonl", "ab") as file:
        file.write(b'{"key": "torn')
    scored = run_suite(suite, ["m"], tmp_path / "out", lambda name: second)
    assert first.asked == 8 and second.asked == 24 - 8 and len(scored) == 24
    assert run_suite(suite, ["m"], tmp_path / "out", lambda name: third) == scored and third.asked == 0


def test_the_command_writes_its_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answerer(name: str, suite: Suite) -> Model:
        return Model()

    monkeypatch.setattr(commands, "local_answerer", answerer)
    path = suite_file(tmp_path / "t.toml", cases=3)
    commands.test(commands.TestConfig(file=str(path), out=str(tmp_path / "out"), language="zh"))
    assert "good: clearly ahead" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "提示词测试" in page and "bad &lt;b&gt;" in page and "<b>\"" not in page and "Short &amp; sweet" in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["models"]["m"]["best"] == "good"


@pytest.mark.parametrize(
    ("settings", "text", "passes"),
    [
        ({"contains": ("Rain", "sun")}, "rain and SUN", True),
        ({"contains": ("rain", "sun")}, "rain", False),
        ({"contains_any": ("rain", "sun")}, "sun", True),
        ({"not_contains": ("rain",)}, "Rain", False),
        ({"matches": "yes*[a]"}, "Yes, of course [a]", True),
        ({"matches": "yes?"}, "yes!!", False),
        ({"min_words": 4}, "天空很蓝", True),
        ({"max_words": 3}, "天空很蓝", False),
        ({"script": "Han"}, "天空很蓝, OK 你说得对吗我觉得很对呀今天我们去公园玩吧", True),
        ({"script": "Latin"}, "天空很蓝", False),
        ({"ends": (".", "。")}, "Done. ", True),
        ({"starts": ("yes",)}, "No.", False),
        ({"json": True}, '{"a": 1}', True),
        ({"json": True}, 'Sure: {"a": 1}', False),
        ({"finished": True}, "x", False),
    ],
)
def test_assertions(settings: dict[str, object], text: str, passes: bool) -> None:
    assert Assertions(**settings).check(text, finished=False) == {next(iter(settings)): passes}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("max_words = 3", "max_wordz = 3"), "max_words"),
        (("{{q}} Short!", "{{r}} Short!"), "no value for r"),
        (('name = "bad <b>"', 'name = "good"'), "same name"),
        (("max_words = 3", ""), "add an assertion"),
        (("{{q}} Short!", "{{q Short!"), "variant 1: line 1"),
        (('q = "Why 0?"', 'q = "a", z = "b"'), "no variant has {{z}}"),
        (('name = "t"', 'nam = "t"'), "no such table"),
        (("[all]", "[settings]\nsamples = 2\n[all]"), "no effect at temperature 0"),
        (("[all]", '[settings]\nrubric = "en"\n[all]'), "needs keywords"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = suite_file(tmp_path / "t.toml", cases=1)
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    assert message in str(caught.value) and "t.toml" in str(caught.value)
