"""Which answers are right, which is the closest, and what a model reads: on a small lexicon, and for any lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatwright.data.cldr import Names
from chatwright.data.cldr_words import DIRECTIONS, LANGUAGES, lexicon, normal, read_as, written

FRUIT: Names = {
    "🍎": {"en": ("red apple", "apple", "fruit"), "zh": ("红苹果", "苹果", "水果"), "es": ("manzana roja", "manzana")},
    "🍏": {"en": ("green apple", "apple", "fruit"), "zh": ("青苹果", "苹果", "水果"), "es": ("manzana verde", "manzana")},
    "🍐": {"en": ("pear", "fruit", "10:00"), "zh": ("梨", "水果", "VHS"), "es": ("pera", "fruta")},
    "❤": {"en": ("red heart", "Love"), "zh": ("红心", "爱"), "es": ("corazón rojo", "amor")},
    "{": {"en": ("brace",), "zh": ("括号",), "es": ("llave",)},
}
WORDS = st.lists(st.sampled_from(["apple", "pear", "fruit", "Red", "red apple", "苹果", "水果", "红", "10"]), max_size=4)
NAMES = st.dictionaries(
    st.sampled_from(["🍎", "🍏", "🍐", "❤", "👱‍♂", "{", "#⃣"]),
    st.fixed_dictionaries({name: WORDS.map(lambda words: tuple(dict.fromkeys(words))) for name in ("en", "zh", "es")}),
)


def test_an_answer_is_right_when_an_emoji_carries_both() -> None:
    found = lexicon(FRUIT)
    assert found.accepted("apple", "en", "emoji") == {"🍎", "🍏"}
    assert found.accepted("apple", "en", "zh") == {"红苹果", "青苹果", "苹果", "水果"}
    assert found.accepted("pear", "en", "zh") == {"梨", "水果"}, "VHS is not written in Han"
    assert found.accepted("🍎", "emoji", "es") == {"manzana roja", "manzana"}
    assert found.accepted("brace", "en", "zh") == frozenset(), "only emoji take part"
    assert found.accepted("10:00", "en", "zh") == found.accepted("steel", "en", "zh") == frozenset()


def test_the_closest_stands_with_the_same_emoji() -> None:
    found = lexicon(FRUIT)
    assert found.closest("apple", "en", "zh")[0] == "苹果"
    assert found.closest("apple", "en", "es")[0] == "manzana"
    assert found.closest("fruit", "en", "zh")[0] == "水果"
    assert found.closest("manzana", "es", "en")[0] == "apple"
    assert found.closest("🍎", "emoji", "zh")[0] == "红苹果", "of equally close names CLDR's own short one"
    assert found.closest("love", "en", "emoji") == ["❤️"], "lower case, and spelled as a picture"


def test_words_of_an_emoji_that_is_left_out_are_gone() -> None:
    found = lexicon(FRUIT, without=["🍐", "❤️"])
    assert "pear" not in found.emoji["en"] and "🍐" not in found.emoji["emoji"] and "爱" not in found.emoji["zh"]
    assert found.accepted("fruit", "en", "zh") == {"红苹果", "青苹果", "苹果", "水果"}


@given(NAMES)
def test_right_is_mutual_and_the_closest_are_the_right_ones(names: Names) -> None:
    found = lexicon(names)
    for source, target in DIRECTIONS:
        for word in found.emoji[source]:
            closest = found.closest(word, source, target)
            assert len(closest) == len(set(closest)) and set(closest) == found.accepted(word, source, target)
            assert all(word in found.accepted(answer, target, source) for answer in closest)
            assert word == normal(word, source)


@given(st.text(max_size=8), st.sampled_from(LANGUAGES), st.sampled_from(LANGUAGES))
def test_what_the_model_reads_can_be_told_apart(text: str, source: str, target: str) -> None:
    word = normal(text, source)  # type: ignore[arg-type]
    line = f"{read_as(word, source, target)}{written('x', target).removeprefix(target)}"  # type: ignore[arg-type]
    assert normal(word, source) == word  # type: ignore[arg-type]
    assert line.count("\t") == 1 and line == f"{written(word, source)}\t{written('x', target)}"  # type: ignore[arg-type]
