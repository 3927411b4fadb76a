"""What the server says and the web app tells in the reader's language: nothing that it can say is without a text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from chatwright.errors import DataError
from chatwright.evals.gate import gate
from chatwright.feedback import export_rows
from chatwright.generation.calculator import calculate
from chatwright.jsonl import Where, parse
from chatwright.pipeline import retrain
from chatwright.records import Demonstration, Ranking
from chatwright.serve.chat.live import told
from chatwright.serve.engine import EngineBusy, EngineGone, PromptTooLong

ROOT = Path(__file__).parents[2]
SERVE, WEB = ROOT / "src/chatwright/serve", ROOT / "web/src"
TEXTS = json.loads((WEB / "i18n/zh-CN.json").read_text(encoding="utf-8"))
WORDS = json.loads((WEB / "i18n/server-words.json").read_text(encoding="utf-8"))
KINDS = ("human", "simulated", "ai")


def slug(text: str) -> str:
    """As `web/src/lib/said.ts`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """Calls of a function or method of this name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and name == getattr(node.func, "attr", getattr(node.func, "id", "")):
            yield node


def literals(node: ast.expr) -> list[str]:
    """The texts that an argument may be; `{}` stands for what is filled in."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def test_reasons_to_leave_rows_out_have_texts() -> None:
    said = [text for call in calls(Path(export_rows.__file__), "Left") for text in literals(call.args[0])]
    assert len(said) > 9
    names = {slug(text.replace("{}", kind)) for text in said for kind in KINDS} | {slug(export_rows.UNMERGED)}
    assert names == set(TEXTS["lead"]["leftOut"])


def test_audited_actions_have_texts() -> None:
    said: set[str] = set()
    for path in SERVE.rglob("*.py"):
        for name in ("record", "record_refusal", "record_reading"):
            said |= {text for call in calls(path, name) if len(call.args) > 3 for text in literals(call.args[3])}
        said |= {f"desk.{text}" for call in calls(path, "note") if len(call.args) > 3 for text in literals(call.args[3])}
    said -= {"desk.{}"}
    said |= {"audit.prune"}  # by the server itself, retention.py
    filled = {"link.{}": ("admin", "invite", "reset"), "desk.task.{}": ("clear", "close")}
    names = {slug(text.replace("{}", one)) for text in said for one in filled.get(text, ("",))}
    assert len(names) > 25 and names == set(TEXTS["audit"]["actions"])


def test_refusals_of_report_cards_have_texts() -> None:
    found = {"value": 0.1, "low": 0.05, "high": 0.2, "p": 0.001, "prompts": 40, "constant": False}
    changes: list[dict[str, object]] = [{"value": -0.1}, {"low": -0.1}, {"p": 0.2}, {"prompts": 3}, {"constant": True}, {}]
    said = [
        gate({"accuracy": {"value": 0.6}, "length_baseline": 0.5, "above_length": found | change}) for change in changes
    ]
    assert said.pop() is None
    names = ("cardNoBetter", "cardUnsure", "cardUnsure", "cardFew", "cardConstant")
    assert [key_of("cards", str(text)) for text in said] == [f"lead.models.{name}" for name in names]
    recipe = ast.parse((ROOT / "src/chatwright/recipes/reward.py").read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(recipe) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    missing = {text for text in texts if "there is no report card" in text}
    assert {key_of("cards", text) for text in missing} == {"lead.models.cardNone"}


def test_stages_of_a_retraining_have_texts() -> None:
    source = Path(retrain.__file__)
    said = [call.args[1] for call in calls(source, "stage")] + [call.args[3] for call in calls(source, "_report")]
    names = {slug(text) for node in said for text in literals(node)}
    assert len(names) > 5 and names == set(TEXTS["lead"]["stages"])


def test_codes_of_errors_are_the_servers() -> None:
    table = re.search(r"KNOWN[^{]*\{(.*?)\};", (WEB / "api/message.ts").read_text(encoding="utf-8"), re.DOTALL)
    codes = re.findall(r"(\w+): \"", table[1]) if table else []
    named = re.compile(r"code=(?:\w+ if \w+ else )?\"(\w+)\"|\"(context_length_exceeded)\"")
    folders = [ROOT / "src/chatwright" / part for part in ("serve", "feedback")]
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    used = {code for text in sources for found in named.findall(text) for code in found if code}
    assert len(codes) > 20 and set(codes) <= used


def key_of(kind: str, text: str) -> str:
    """The text that the app shows instead."""
    found = [key for pattern, key in WORDS[kind] if re.search(pattern, text)]
    assert found, text
    node = TEXTS
    for part in found[0].split("."):
        node = node[part]
    assert isinstance(node, str)
    return str(found[0])


def test_failures_of_answers_have_texts() -> None:
    assert key_of("answers", str(EngineBusy(3.0))) == "errors.busy"
    assert key_of("answers", str(PromptTooLong(5, 4))) == "errors.tooLong"
    assert key_of("answers", told(RuntimeError("secret"))) == "errors.modelFailed"
    gone = [
        text.replace("{}", "m")
        for name in ("upstream.py", "scheduler.py")
        for call in calls(SERVE / name, "EngineGone")
        for text in literals(call.args[0])
    ]
    assert len(gone) > 6
    assert {key_of("answers", str(EngineGone(text))) for text in gone} == {"errors.modelGone"}


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("1/0", "zero"), ("(-2)^0.5", "notReal"), ("sqrt(-1)", "notReal"), ("9^9^9^9", "tooLarge"),
        ("(" * 300 + "1" + ")" * 300, "tooDeep"),
    ],
)  # fmt: skip
def test_failures_of_the_calculator_have_texts(expression: str, key: str) -> None:
    with pytest.raises(DataError) as caught:
        calculate(expression)
    assert key_of("steps", str(caught.value).removeprefix("calculator: ")) == f"message.steps.{key}"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("{", "notJson"), ("[" * 900 + "]" * 900, "tooDeep"), ('{"messages": 3}', "wrongValue"),
        ('{"prompt": "a", "completions": ["a", "b"], "ranking": "A>C"}', "wrongOrder"),
        ('{"prompt": "a", "completions": ["a", "b"], "ranking": "A>A"}', "wrongOrder"),
        ('{"prompt": "a", "completions": ["a", "b"], "ranking": "A"}', "wrongOrder"),
        ('{"prompt": "a"}', "missing"), ('{"prompt": "a", "completion": " "}', "emptyAnswer"),
        ('{"prompt": "a", "completions": ["a", "b"], "ranking": "A>B", "seconds": "x"}', "wrongValue"),
    ],
)  # fmt: skip
def test_reasons_against_rows_have_texts(line: str, key: str) -> None:
    where = Where("rows.jsonl", 7)
    read = partial((Ranking if "completions" in line else Demonstration).from_dict, where=where)
    with pytest.raises(DataError) as caught:
        read(parse(line, where))
    said = re.fullmatch(r".*?:(\d+): ([^:]+): (.*)", str(caught.value), re.DOTALL)
    assert said and said[1] == "7"
    assert key_of("rows", said[3]) == f"lead.badRows.{key}"
