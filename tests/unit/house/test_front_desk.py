"""The bundled front desk: its quotas, its split, and its answers before the judge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import chatwright
from chatwright.cli import main
from chatwright.house.check import check_house
from chatwright.house.judge import Judge
from chatwright.house.language import load_language
from chatwright.house.overlap import MAX_OVERLAP, content_words, overlap
from chatwright.house.sheet import RESERVED_KINDS, Sheet, read_sheet
from chatwright.house.split import Split, read_sealed, split_sheet

ROOT = Path(chatwright.__file__).parent / "bundled" / "house"
LANGUAGES = sorted(path.parent.name for path in ROOT.glob("*/facts.jsonl"))


@pytest.fixture(scope="module", params=LANGUAGES)
def house(request: pytest.FixtureRequest) -> tuple[str, Sheet, Split]:
    sheet = read_sheet(ROOT / request.param / "facts.jsonl")
    return request.param, sheet, split_sheet(sheet, load_language(request.param))


def test_english_is_there() -> None:
    assert "en" in LANGUAGES


def test_check_finds_no_problem(house: tuple[str, Sheet, Split], capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_house(ROOT / house[0], quota=True).problems
    assert main(["house", "check", str(ROOT / house[0]), "--quota"]) == 0
    assert "no problems" in capsys.readouterr().out


def test_quotas_of_every_fact_and_kind(house: tuple[str, Sheet, Split]) -> None:
    name, sheet, split = house
    sealed = read_sealed(sheet, load_language(name))
    count = {
        part: Counter(a.fact.id if a.fact.is_house else a.fact.kind for a in asked)
        for part, asked in {**vars(split), "sealed": sealed}.items()
        if part != "sealed_count"
    }
    facts = [fact.id for fact in sheet.facts if fact.is_house]
    assert len(facts) >= 48
    for fact in facts:
        assert count["taught"][fact] in (5, 6) and count["ranked"][fact] in (5, 6, 7), fact
        assert count["held_out"][fact] == 4 and count["sealed"][fact] == 2, fact
    least = {"unknown": (60, 60, 40, 20), "unsafe": (40, 40, 24, 12), "harmless": (24, 24, 16, 8)}
    for kind, numbers in least.items():
        got = tuple(count[part][kind] for part in ("taught", "ranked", "held_out", "sealed"))
        assert all(have >= need for have, need in zip(got, numbers, strict=True)), (kind, got)


def test_parts_share_no_question_and_tested_ones_no_more_than_half_their_words(house: tuple[str, Sheet, Split]) -> None:
    name, sheet, split = house
    language = load_language(name)
    sealed = read_sealed(sheet, language)
    parts = [{a.question.key for a in asked} for asked in (split.taught, split.ranked, split.held_out, sealed)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == sum(len(fact.questions) for fact in sheet.facts)
    taught: dict[str, list[frozenset[str]]] = {}
    for a in split.taught:
        taught.setdefault(a.fact.id, []).append(content_words(a.question, language))
    for a in (*split.held_out, *sealed):
        words = content_words(a.question, language)
        assert all(overlap(words, other) <= MAX_OVERLAP for other in taught.get(a.fact.id, [])), a.question.turns


def test_answers_are_right_for_their_fact_and_wrong_for_others_of_the_kind(house: tuple[str, Sheet, Split]) -> None:
    name, sheet, _ = house
    judge = Judge(sheet, load_language(name))
    shared = total = 0
    for fact in sheet.facts:
        others = [o for o in sheet.facts if o.kind == fact.kind and o.id != fact.id and o.is_house]
        for answer in fact.answers:
            found = judge.judge(fact.id, fact.questions[0].messages(), answer)
            assert found.right and found.style >= 0.6, (fact.id, answer, found)
            assert found.declined == (fact.kind in ("unknown", "unsafe")), (fact.id, answer)
            total += 1
            shared += any(judge.judge(o.id, o.questions[0].messages(), answer).right for o in others)
    assert shared <= 0.02 * total, "few answers state two facts, such as the hours from ten to five"


def test_one_question_in_ten_is_a_dialogue(house: tuple[str, Sheet, Split]) -> None:
    questions = [q for fact in house[1].facts if fact.is_house for q in fact.questions]
    assert 0.08 <= sum(q.is_dialogue for q in questions) / len(questions) <= 0.14


def test_questions_are_no_template_with_slots(house: tuple[str, Sheet, Split]) -> None:
    """No opening of four words (zh: six characters) begins more than 2 % of the questions."""
    name, sheet, _ = house
    texts = [q.turns[-1].lower() for fact in sheet.facts for q in fact.questions]
    starts = Counter(" ".join(text.split()[:4]) if name == "en" else text[:6] for text in texts)
    start, times = starts.most_common(1)[0]
    assert times <= 0.02 * len(texts), (start, times)


def test_every_kind_is_reserved_or_has_several_facts(house: tuple[str, Sheet, Split]) -> None:
    kinds = Counter(fact.kind for fact in house[1].facts)
    assert set(RESERVED_KINDS) <= set(kinds)
    assert all(number >= 4 for kind, number in kinds.items()), kinds
