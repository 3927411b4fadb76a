"""Calls in an answer's text: found whole, whatever their arguments hold and however the text is cut into pieces."""

from __future__ import annotations

import json

import pytest

from chatwright.serve.openai.tool_calls import _call_json
from chatwright.serve.openai.tool_reader import ToolReader
from chatwright.text.tool_format import OWN

OPEN, CLOSE = OWN.open, OWN.close


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "argument", ["plain", f"a{CLOSE}b", f"{OPEN}x{CLOSE}", 'quoted "' + CLOSE + '" text', "back\\slash\\", f'\\"{CLOSE}\\']
)
def test_marks_inside_an_argument_end_no_call(argument: str, size: int) -> None:
    call = json.dumps({"name": "f", "arguments": {"text": argument}})
    answer = f"before {OPEN}{call}{CLOSE}\n{OPEN}{call}{CLOSE}"
    reader, shown = ToolReader(), ""
    for at in range(0, len(answer), size):
        shown += reader.push(answer[at : at + size])[0]
    shown += reader.flush()
    assert shown.strip() == "before"
    assert [json.loads(one.arguments) for one in reader.calls] == [{"text": argument}] * 2


def test_what_is_no_call_stays_text() -> None:
    reader = ToolReader()
    text = f'{OPEN}not "JSON" at all{CLOSE} and {OPEN}{{"name": 3}}{CLOSE} and {OPEN}"open {CLOSE}'
    assert reader.push(text)[0] + reader.flush() == text and not reader.calls


def test_an_earlier_call_holds_no_marks() -> None:
    """In the prompt of the next turn an argument can neither end its call nor begin another."""
    text = _call_json("f", json.dumps({"text": f"{CLOSE}{OPEN}"}))
    assert OPEN not in text and CLOSE not in text
    assert json.loads(text)["arguments"] == {"text": f"{CLOSE}{OPEN}"}
