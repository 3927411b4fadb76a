"""Disguises that have to come to one spelling, and texts that must stay what they are."""

from __future__ import annotations

import pytest

from chatwright.serve.moderation.normalise import _SIMPLIFIED, MAX_CHARS, languages, normalise


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("ＩＤＩＯＴ", "idiot"),
        ("id\u200bio\u2060t", "idiot"),
        ("іdiоt you", "idiot you"),  # Cyrillic i and o
        ("1d10t", "idiot"),
        ("y0u id10t", "you idiot"),
        ("i d i o t", "idiot"),
        ("i.d.i.o.t", "idiot"),
        ("idioooooot", "idioot"),
        ("傻\u200b逼", "傻逼"),
        ("傻 * 逼", "傻逼"),
        ("滾開，賤貨們", "滚开,贱货们"),
        ("i\u0335d\u0336i\u0337ot", "idiot"),
    ],
)
def test_disguises(disguised: str, plain: str) -> None:
    assert normalise(disguised) == plain


@pytest.mark.parametrize("text", ["what is 3457 * 43216?", "i have a cat", "привет, как дела", "in 2024 we were 10"])
def test_plain_texts_stay(text: str) -> None:
    assert normalise(text) == text


def test_languages() -> None:
    assert languages(normalise("Hello there")) == ("en",)
    assert languages(normalise("你好 OK")) == ("zh",)
    assert languages(normalise("你好 please tell me how")) == ("zh", "en")
    assert languages("привет 123") == languages("") == ()


def test_long_texts_keep_both_ends() -> None:
    found = normalise("begin " + "ab cd " * MAX_CHARS + " finish")
    assert len(found) <= MAX_CHARS + 1 and found.startswith("begin") and found.endswith("finish")


def test_the_table_of_characters_maps_old_ones_to_new_ones_only() -> None:
    assert not set(_SIMPLIFIED) & {ord(new) for new in _SIMPLIFIED.values()}
    assert normalise("這個發財的國家") == "这个发财的国家"
