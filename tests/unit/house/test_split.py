from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

import chatwright
from chatwright.house.language import FORM_LISTS, Language, load_language
from chatwright.house.overlap import MAX_OVERLAP, content_words, overlap
from chatwright.house.sheet import Fact, Question, Sheet
from chatwright.house.split import HouseQuestion, quotas, read_sealed, split_sheet

EN = load_language("en")
SHARES = {"taught": 6, "ranked": 6, "held_out": 4, "sealed": 2}
WORDS = (
    "apple bread candle dragon eagle forest garden hammer island jungle kettle ladder mirror needle orange pepper".split()
)


def sheet_of(*wordings: Iterable[str]) -> Sheet:
    facts = [
        Fact(id=f"f{i}", questions=tuple(Question((text,)) for text in texts), answers=("It is 3.",), right=("3",))
        for i, texts in enumerate(wordings)
    ]
    return Sheet(tuple(facts))


def wordings(count: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [f"{' '.join(source.sample(WORDS, 3))} number{seed}x{i}" for i in range(count)]


def keys(asked: Iterable[HouseQuestion]) -> set[str]:
    return {a.question.key for a in asked}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, "1000"), (2, "1010"), (3, "1110"), (4, "2110"), (6, "2211"), (9, "3321"), (16, "5542"), (17, "6542"), (18, "6642")],
)
def test_quotas(count: int, expected: str) -> None:
    got = quotas(count, SHARES)  # type: ignore[arg-type]
    assert "".join(str(got[part]) for part in SHARES) == expected  # type: ignore[index]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 18, 40])
def test_every_question_has_one_part_and_the_order_does_not_matter(count: int) -> None:
    texts = wordings(count)
    first = split_sheet(sheet_of(texts), EN)
    again = split_sheet(sheet_of(random.Random(1).sample(texts, count)), EN)
    sealed = read_sealed(sheet_of(texts), EN)
    parts = [keys(first.taught), keys(first.ranked), keys(first.held_out), keys(sealed)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == count
    assert parts[:3] == [keys(again.taught), keys(again.ranked), keys(again.held_out)]
    assert first.taught, "a fact with one wording is taught by it"
    assert first.sealed_count == len(sealed)


def test_a_new_fact_moves_no_question_of_another() -> None:
    one, two = split_sheet(sheet_of(wordings(18)), EN), split_sheet(sheet_of(wordings(18), wordings(18, 5)), EN)
    for part in ("taught", "ranked", "held_out"):
        assert keys(getattr(one, part)) <= keys(getattr(two, part))


def test_wordings_that_overlap_are_not_tested_against_one_another() -> None:
    same = [f"How much is the blue apple bread candle dish {word}?" for word in WORDS]
    split = split_sheet(sheet_of(same), EN)
    assert split.taught and not split.held_out and split.sealed_count == 0


def test_the_hardest_wording_is_held_out() -> None:
    easy = [f"How much is a {word} ticket?" for word in WORDS]
    split = split_sheet(sheet_of([*easy, "My nephew is broke. Zebra?"]), EN)
    assert "mynephewisbrokezebra" in keys(split.held_out)


def test_overlap_counts_content_words() -> None:
    def words(text: str) -> frozenset[str]:
        return content_words(Question((text,)), EN)

    assert words("How much are the tickets?") == {"ticket"}
    assert overlap(words("Where is the big lift?"), words("Is there a lift?")) == 0.5
    assert overlap(words("Where is it?"), words("Is there a lift?")) == 1.0
    dialogue = Question(("How much is a pass?", "Nine dollars.", "And for granny?"))
    assert content_words(dialogue, EN) == {"pass", "granny"}


def test_chinese_overlap_counts_pairs_of_characters() -> None:
    lists: dict[str, list[str]] = {name: [] for name in FORM_LISTS} | {"stop_words": ["几点", "的", "吗"]}
    chinese = Language.from_lists("zh", lists)

    def words(text: str) -> frozenset[str]:
        return content_words(Question((text,)), chinese)

    assert words("博物馆几点开门?") == {"博物", "物馆", "开门"}
    assert words("馆的WiFi密码") == {"馆", "wifi", "密码"}
    assert overlap(words("几点开门吗"), words("博物馆开门")) == 1.0


def test_reserved_kinds_are_pooled() -> None:
    facts = [
        Fact(id=f"u{i}", kind="unknown", questions=tuple(Question((t,)) for t in wordings(9, i)), answers=("I don't know.",))
        for i in range(6)
    ]
    split = split_sheet(Sheet(tuple(facts)), EN)
    assert len(split.taught) == 18
    assert len(split.taught) + len(split.ranked) + len(split.held_out) + split.sealed_count == 54


def test_only_one_function_reads_the_sealed_part() -> None:
    """Training code never calls `read_sealed`: only the module that defines it may name it until --sealed exists."""
    root = Path(chatwright.__file__).parent
    users = [path for path in root.rglob("*.py") if "read_sealed" in path.read_text(encoding="utf-8")]
    assert [path.relative_to(root).as_posix() for path in users] == ["house/split.py"]


def test_the_overlap_bound_is_the_specified_half() -> None:
    assert MAX_OVERLAP == 0.5
