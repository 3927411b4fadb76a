"""Scripts of letters agree with Unicode; words are found in every script; hashes do not depend on place."""

from __future__ import annotations

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.text import letters
from chatwright.text.scripts import SCRIPTS

ALPHABET = st.text(st.sampled_from("ab的中 .1é\u0301\nのกa"), max_size=60)


@pytest.mark.parametrize("script", SCRIPTS)
def test_letters_have_the_script_that_unicode_gives_them(script: str) -> None:
    """All but some modifier and compatibility letters, whose names begin otherwise."""
    number = letters.SCRIPT_NAMES.index(script)
    pattern = regex.compile(rf"[\p{{{script}}}&&\p{{L}}]", regex.V1)
    points = [p for p in range(letters.NUM_CODE_POINTS) if chr(p).isalpha() and pattern.match(chr(p))]
    agreed = (letters.script_table()[points] == number).mean()
    # Modifier letters are "MODIFIER LETTER ..." by name.
    assert len(points) > 20 and agreed > 0.85


def test_a_letter_of_one_script_is_not_taken_for_another() -> None:
    for text, script in (("ñßøſ", "Latin"), ("жщ", "Cyrillic"), ("你𠮷々", "Han"), ("のぁ", "Hiragana"), ("ア", "Katakana"),
                         ("한", "Hangul"), ("ش", "Arabic"), ("ก", "Thai"), ("क", "Devanagari")):  # fmt: skip
        found = {letters.SCRIPT_NAMES[n] for n in letters.script_table()[letters.codes(text)]}
        assert found - {"Other"} == {script}, text
    assert not letters.script_table()[letters.codes("1 ,。\u0301🍎")].any()


@pytest.mark.parametrize(
    ("text", "lengths", "num_alone"),
    [
        ("", [], 0),
        ("Hello, world it's", [5, 5, 2, 1], 0),
        ("你好world 123abc", [1, 1, 5, 6], 2),
        ("cafe\u0301 한국", [5, 1, 1], 2),
        ("--- !!", [], 0),
        ("か\u3099き", [2, 1], 2),
    ],
)
def test_words(text: str, lengths: list[int], num_alone: int) -> None:
    found = letters.words(text)
    assert found.lengths.tolist() == lengths and found.num_alone == num_alone and len(found.hashes) == len(lengths)


@settings(deadline=None)
@given(ALPHABET, ALPHABET)
def test_equal_words_have_equal_hashes_wherever_they_stand(before: str, text: str) -> None:
    alone = letters.words(text).hashes.tolist()
    behind = letters.words(before + " . " + text).hashes.tolist()
    assert behind[len(behind) - len(alone) :] == alone


@settings(deadline=None)
@given(st.lists(st.sampled_from(["one", "two", "three", "好", "中", "x1"]), max_size=30))
def test_different_words_have_different_hashes(parts: list[str]) -> None:
    hashes = letters.words(" ".join(parts)).hashes.tolist()
    assert len(set(hashes)) == len(set(parts)) and len(hashes) == len(parts)


def test_long_texts_are_hashed_as_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "the quick brown fox 你好 " * 300
    whole = letters.words(text).hashes
    monkeypatch.setattr(letters, "_BLOCK", 61)
    assert np.array_equal(letters.words(text).hashes, whole)
    assert len(np.unique(whole)) == 6


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 6))
def test_windows_are_equal_exactly_when_their_parts_are(numbers: list[int], size: int) -> None:
    hashes = letters.mixed(np.array(numbers, np.uint64))
    found = letters.windows(hashes, size).tolist()
    expected = [tuple(numbers[i : i + size]) for i in range(len(numbers) - size + 1)]
    assert len(found) == len(expected)
    assert len(set(found)) == len(set(expected)) and all(
        (found[i] == found[j]) == (expected[i] == expected[j]) for i in range(len(found)) for j in range(i)
    )
