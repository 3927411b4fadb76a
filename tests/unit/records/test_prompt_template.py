from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import DataError
from chatwright.records.prompt_template import PromptTemplate


def test_places_defaults_and_order() -> None:
    template = PromptTemplate.parse("Dear {{ name }},\n{{正文|你好}} {{name}} {not} }} {{empty|}}")
    assert template.variables == {"name": None, "正文": "你好", "empty": ""}
    assert template.render({"name": "Ada"}) == "Dear Ada,\n你好 Ada {not} }} "
    assert PromptTemplate.parse("{{x}} {{x|later}}").render({}) == "later later"


@given(st.text(), st.text())
def test_values_are_plain_text(first: str, second: str) -> None:
    assert PromptTemplate.parse("{{a}}|{{b}}").render({"a": first, "b": second}) == f"{first}|{second}"
    assert PromptTemplate.parse("{{a}}").render({"a": "{{b|" + first + "}}"}) == "{{b|" + first + "}}"


@given(st.text(alphabet="{}|ab 变1\n"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        template = PromptTemplate.parse(text)
    except DataError:
        return
    rendered = template.render(dict.fromkeys(template.variables, ""))
    assert "{{" in text or rendered == text


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\n{{b", "line 2"), ("{{}}", "no variable"), ("{{1a}}", "digit"), ("{{a b}}", "no variable"),
     ("{{a|1}}{{a|2}}", "two different defaults"), ("{{" + "a" * 65 + "}}", "at most 64")],
)  # fmt: skip
def test_what_is_no_place_is_refused(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        PromptTemplate.parse(text)


def test_all_missing_and_unknown_variables_are_named() -> None:
    template = PromptTemplate.parse("{{a}} {{b|x}} {{c}}")
    with pytest.raises(DataError, match="a, c"):
        template.render({})
    with pytest.raises(DataError, match="d: no such variable"):
        template.render({"a": "1", "c": "2", "d": "3"})
