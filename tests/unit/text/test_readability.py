from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.text.readability import (
    flesch_kincaid_grade,
    han_characters,
    sentences,
    sentences_zh,
    syllables,
    words,
)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("cat", 1), ("make", 1), ("makes", 1), ("places", 2), ("jumped", 1), ("needed", 2), ("the", 1), ("bee", 1),
        ("away", 2), ("open", 2), ("very", 2), ("apple", 2), ("table", 2), ("gravity", 3), ("animal", 3), ("honey", 2),
        ("beautiful", 3), ("energy", 3), ("don't", 1), ("you’re", 1), ("you're", 1), ("42", 1), ("BECAUSE", 2),
    ],
)  # fmt: skip
def test_syllables(word: str, count: int) -> None:
    assert syllables(word) == count


def test_sentences_keep_decimals_and_abbreviations_and_break_at_lines() -> None:
    assert sentences("It is 3.5 m long. Dr. Fox said so! Is it?") == ["It is 3.5 m long.", "Dr. Fox said so!", "Is it?"]
    assert sentences("A title\nFirst thing. cut off") == ["A title", "First thing.", "cut off"]
    assert sentences('He said "no." Then left.') == ['He said "no."', "Then left."]
    assert sentences("") == []


def test_chinese_sentences_and_characters() -> None:
    assert sentences_zh("重力拉住你。像磁铁一样！对吗") == ["重力拉住你。", "像磁铁一样！", "对吗"]
    assert han_characters("X光3，你好!") == ["光", "你", "好"]


def test_grade_is_the_formula() -> None:
    # 6 words, 1 sentence, 6 syllables; 5 words in 2 sentences with 9 syllables (grav-i-ty, an-i-mals)
    assert flesch_kincaid_grade("The cat sat on the mat.") == pytest.approx(0.39 * 6 + 11.8 - 15.59)
    assert flesch_kincaid_grade("Gravity pulls. Animals jump high.") == pytest.approx(0.39 * 2.5 + 11.8 * 9 / 5 - 15.59)
    assert flesch_kincaid_grade("") == flesch_kincaid_grade("...") == 0.0


def test_grade_orders_hard_and_easy_text() -> None:
    hard = "Photosynthesis constitutes a fundamental biochemical transformation of electromagnetic radiation."
    assert flesch_kincaid_grade(hard) > 14 > 3 > flesch_kincaid_grade("Leaves use the sun. They make food with it.")


@given(st.text(max_size=200))
def test_any_text_is_measured(text: str) -> None:
    assert flesch_kincaid_grade(text) == pytest.approx(flesch_kincaid_grade(text))
    assert all(syllables(word) >= 1 for word in words(text))
    assert all(sentence.strip() == sentence != "" for sentence in [*sentences(text), *sentences_zh(text)])
    kept = "".join("".join(sentences(text)).split())
    assert kept == "".join(text.replace("\0", ".").split()) or "\0" in text
