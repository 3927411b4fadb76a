"""Phrases and emoji, against the `regex` package's own tables of Unicode."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from chatwright.text.scripts import SCRIPTS, phrase_regex
from chatwright.text.spelled import Matches, is_phrase, with_presentation

TEXTS = st.text(st.sampled_from("aé́苹果ñя10 \n-,。️‍❤🍎👨🏫🏽🇨🇳#⃣\U000e0067"), max_size=6) | st.text(max_size=4)


@pytest.mark.parametrize(
    ("script", "yes", "no"),
    [
        ("Latin", ["red apple", "o’clock", "año", "10 en punto", "e\u0301"], ["", "10", " a", "a  b", "a\nb", "果", "aя"]),
        ("Han", ["苹果", "10点", "苹 果", "红,苹果"], ["", "10", "苹果 ", "苹\n果", "apple", "A型血"]),
        ("emoji", ["🍎", "❤️", "❤️‍🔥", "👨‍🏫", "👍🏽", "🇨🇳", "#️⃣"], ["", "❤", "🍎🍏", "🍎 ", "🇨", "🏽", "#", "🇦🇦"]),
    ],
)  # fmt: skip
def test_what_a_phrase_is(script: str, yes: list[str], no: list[str]) -> None:
    fits = is_phrase(script)
    assert [text for text in yes if not fits(text)] == []
    assert [text for text in no if fits(text)] == []


@given(TEXTS)
def test_phrases_are_of_their_script_alone(text: str) -> None:
    for script in ("Latin", "Han"):
        if is_phrase(script)(text):
            assert regex.search(rf"\p{{Script={script}}}", text)
            assert regex.fullmatch(rf"[\p{{Script={script}}}\p{{M}}\p{{P}}\p{{S}}0-9 ]+", text)
            assert text == " ".join(text.split())


@given(TEXTS)
def test_an_emoji_is_one_cluster(text: str) -> None:
    whole = with_presentation(text)
    if is_phrase("emoji")(text):
        assert regex.fullmatch(r"\X", text)
        assert whole is not None
    if whole is not None:
        assert is_phrase("emoji")(whole) and regex.fullmatch(r"\X", whole)
        assert with_presentation(whole) == whole
        assert whole.replace("\ufe0f", "") == text.replace("\ufe0f", "")


def test_the_picture_is_asked_for_where_it_would_be_a_letter() -> None:
    assert [with_presentation(text) for text in ("❤", "👱‍♂", "🍎", "#⃣", "❤‍🔥")] == ["❤️", "👱‍♂️", "🍎", "#️⃣", "❤️‍🔥"]
    assert [with_presentation(text) for text in ("", "{", "🏽", "🍎🍏", "\ud83c")] == [None] * 5


def test_every_script_has_phrases() -> None:
    for script in SCRIPTS:
        assert not is_phrase(script)("1")
    assert is_phrase("Cyrillic")("яблоко") and is_phrase("Arabic")("تفاحة")


def test_a_damaged_expression_is_told() -> None:
    with pytest.raises(ValueError):
        Matches("(")
    assert Matches(phrase_regex("Han"))("果")
