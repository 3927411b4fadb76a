"""Prompt tests with a stand-in for the model whose answers depend on the wording, so the winner is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import ConfigError
from chatwright.labellers.ai_judge import JudgeError
from chatwright.serve.prompts import commands
from chatwright.serve.prompts.assertions import Assertions
from chatwright.serve.prompts.remote import RemoteError, remote_answerer
from chatwright.serve.prompts.suite import Suite, load_suite
from chatwright.serve.prompts.testing import Answer, run_suite, summary
from openai_stub import running_stub, said, shown

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


JUDGE = """
[judge]
base_url = "{url}"
model = "m"
guideline = "Prefer the shorter one."
"""


def test_the_judge_compares_the_wordings_answers_in_both_places(tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.reply = lambda body: said("A" if len(shown(body)[0]) < len(shown(body)[1]) else "B")
        suite = load_suite(suite_file(tmp_path / "t.toml", cases=3, extra=JUDGE.format(url=stub.url)))
        found = summary(suite, run_suite(suite, ["m"], tmp_path / "out", lambda name: Model()), ["m"], draws=200)["m"]
        assert found["variants"]["good"]["parts"]["judge"] == 1 and found["variants"]["bad <b>"]["parts"]["judge"] == 0
        assert len(stub.requests) == 3 * 2
        # What is judged is the case, not either wording of it.
        assert all("Short!" not in body["messages"][-1]["content"] for body in stub.requests)
        stub.reply = lambda body: said("A")  # always the first place: no preference
        suite = load_suite(suite_file(tmp_path / "t.toml", cases=3, extra=JUDGE.format(url=stub.url)))
        found = summary(suite, run_suite(suite, ["m"], tmp_path / "out", lambda name: Model()), ["m"], draws=200)["m"]
        assert [found["variants"][name]["parts"]["judge"] for name in ("good", "bad <b>")] == [0.5, 0.5]


def test_the_rubric_scores_what_the_cases_keywords_ask_for(tmp_path: Path) -> None:
    path = suite_file(tmp_path / "t.toml", cases=2, extra='[settings]\nrubric = "en"\n')
    with pytest.raises(ConfigError, match="keywords"):
        load_suite(path)
    path.write_text(path.read_text().replace('?" }\n', '?" }\nkeywords = ["water", "cloud"]\n'))
    good = (
        "Rain is water that falls from a cloud, like a big watering can in the sky! Tiny drops of water hold hands until "
        "they get too heavy. Then you can hear them on your umbrella."
    )

    def model(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[list[Answer]]:
        short = ["Short" in c[-1]["content"] for c in conversations]
        return [[Answer(text=good if one else "- No\n- list", finished=one)] for one in short]

    suite = load_suite(path)
    found = summary(suite, run_suite(suite, ["m"], tmp_path / "out", lambda name: model), ["m"], draws=200)["m"]
    by_name = {name: row["parts"]["rubric"] for name, row in found["variants"].items()}
    assert by_name["good"] > 0.6 > by_name["bad <b>"]


def test_a_model_behind_an_address_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_stub() as stub:
        busy = iter([429, 503])

        def reply(body: dict[str, Any]) -> tuple[int, str]:
            if (status := next(busy, 200)) != 200:
                return status, "busy"
            text = "Short." if "Short" in body["messages"][-1]["content"] else "This one goes on and on."
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return 200, json.dumps({"choices": [choice]})

        stub.reply = reply
        suite = load_suite(suite_file(tmp_path / "t.toml", cases=2, extra="[settings]\nsamples = 2\ntemperature = 1.0\n"))
        answers = remote_answerer("big", stub.url, suite, key="k3y", wait_s=0.01)
        found = summary(suite, run_suite(suite, ["big"], tmp_path / "o", lambda name: answers), ["big"], draws=200)["big"]
        assert found["best"] == "good" and found["variants"]["good"]["passed"] == 1
        assert len(stub.requests) == 2 * 2 * 2 + 2 and stub.headers[-1]["authorization"] == "Bearer k3y"
        assert {body["seed"] for body in stub.requests} == {suite.settings.seed, suite.settings.seed + 1}
        stub.reply = lambda body: (401, "who are you")
        with pytest.raises(RemoteError, match="401"):
            answers([[{"role": "user", "content": "x"}]])
        stub.reply = lambda body: (200, "{}")
        with pytest.raises(RemoteError, match="not a chat completion"):
            answers([[{"role": "user", "content": "x"}]])
    with pytest.raises(ConfigError, match="address"):
        remote_answerer("big", "ftp://x", suite)


def test_replies_that_are_no_verdict_favour_no_wording_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "local_answerer", lambda name, suite: Model())
    with running_stub() as stub:

        def reply(body: dict[str, Any]) -> tuple[int, str]:
            a, b = shown(body)
            hard = "Why 1" in body["messages"][-1]["content"]
            return said("I choose B, because A is wrong.") if hard else said("A" if len(a) < len(b) else "B")

        stub.reply = reply
        path = suite_file(tmp_path / "t.toml", cases=12, extra=JUDGE.format(url=stub.url) + "max_unreadable = 0.3\n")
        commands.test(commands.TestConfig(file=str(path), out=str(tmp_path / "out")))
        assert "3 samples without a readable verdict" in capsys.readouterr().out  # Why 1?, 10, 11
        found = json.loads((tmp_path / "out" / "report.json").read_text())["models"]["m"]
        assert found["variants"]["good"]["parts"]["judge"] == 10.5 / 12 and found["unreadable"] == 3
        assert "readable verdict" in (tmp_path / "out" / "report.html").read_text()
        stub.reply = lambda body: said("Hm.")
        with pytest.raises(JudgeError, match="hold no verdict"):
            commands.test(commands.TestConfig(file=str(path), out=str(tmp_path / "out")))
