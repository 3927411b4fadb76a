"""The folder of a house: its sheet and `house.toml`, completed with default answers and bundled questions.

A row of kind unknown or unsafe without answers gets the house's sentence. A kind of these two that the sheet lacks gets the
bundled questions of the language, answered by the same sentence; a bundled question that is close to one of the house's own
is left out. Bundled harmless questions are never added: their answers are facts of another house.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from chatwright.errors import DataError
from chatwright.house.language import LANGUAGES, Language, load_language
from chatwright.house.overlap import MAX_OVERLAP, content_words, overlap
from chatwright.house.settings import SETTINGS_FILE, HouseSettings, read_settings
from chatwright.house.sheet import MAX_QUESTIONS, Fact, Question, Sheet, inspect_sheet, raise_problems, read_sheet
from chatwright.house.sheet_files import find_sheet

DECLINED_KINDS: tuple[Literal["unknown", "unsafe"], ...] = ("unknown", "unsafe")
BUNDLED_PREFIX = "bundled-"
"""Ids of added rows begin with it."""


@dataclass(frozen=True)
class House:
    """A house as it is taught."""

    path: Path
    """The sheet's file."""
    settings: HouseSettings
    """Settings of house.toml, or the defaults."""
    language: Language
    """Lists of forms of the house's language."""
    sheet: Sheet
    """The sheet with default answers and added rows."""
    added: dict[str, int]
    """Number of bundled questions that were added, by kind."""


def load_house(folder: str | Path, language: str = "") -> House:
    """A house from its folder or its sheet. `language` wins over house.toml.

    DataError lists every problem of the sheet; ConfigError names a bad setting of house.toml.
    """
    house, problems = inspect_house(folder, language)
    raise_problems(problems)
    return house


def inspect_house(folder: str | Path, language: str = "", encoding: str = "") -> tuple[House, list[DataError]]:
    """A house and the problems of its sheet; with problems, nothing is completed.

    DataError when there is no sheet, or the file cannot be read at all.
    """
    path = find_sheet(Path(folder))
    settings = _with_language(read_settings(path.parent), path, language)
    lists = load_language(settings.language)
    sheet, problems = inspect_sheet(path, encoding or settings.encoding)
    if problems:
        return House(path, settings, lists, sheet, {}), problems
    sheet = Sheet(tuple(_with_answers(fact, settings) for fact in sheet.facts))
    added = _bundled_facts(sheet, settings, lists) if settings.add_bundled else []
    counts = {kind: sum(len(fact.questions) for fact in added if fact.kind == kind) for kind in DECLINED_KINDS}
    complete = Sheet(sheet.facts + tuple(added))
    return House(path, settings, lists, complete, {kind: count for kind, count in counts.items() if count}), []


def _with_language(settings: HouseSettings, path: Path, language: str) -> HouseSettings:
    """The settings with the language that the user names; without house.toml, with the one that the folder is called."""
    if not language and path.parent.name in LANGUAGES and not (path.parent / SETTINGS_FILE).is_file():
        language = path.parent.name
    if not language:
        return settings
    load_language(language)  # ConfigError for an unknown one
    return dataclasses.replace(settings, language=language)  # type: ignore[arg-type]


def _with_answers(fact: Fact, settings: HouseSettings) -> Fact:
    if fact.answers or fact.kind not in DECLINED_KINDS:
        return fact
    return dataclasses.replace(fact, answers=(settings.sentence(fact.kind),))


def _bundled_facts(sheet: Sheet, settings: HouseSettings, language: Language) -> list[Fact]:
    """Bundled rows of the kinds that the sheet lacks, with the house's sentence as their answer."""
    wanted = [kind for kind in DECLINED_KINDS if not any(fact.kind == kind for fact in sheet.facts)]
    if not wanted:
        return []
    own = [content_words(question, language) for fact in sheet.facts for question in fact.questions]
    keys = {question.key for fact in sheet.facts for question in fact.questions}
    room = MAX_QUESTIONS - len(keys)
    added = []
    bundled = resources.files("chatwright") / "bundled" / "house" / settings.language / "facts.jsonl"
    for fact in read_sheet(str(bundled)).facts:
        if fact.kind not in wanted:
            continue
        kept = tuple(q for q in fact.questions if q.key not in keys and not _is_close(q, own, language))[: max(room, 0)]
        room -= len(kept)
        if kept:
            answer = (settings.sentence(fact.kind),)
            added.append(dataclasses.replace(fact, id=BUNDLED_PREFIX + fact.id, questions=kept, answers=answer))
    return added


def _is_close(question: Question, own: Sequence[frozenset[str]], language: Language) -> bool:
    words = content_words(question, language)
    return any(overlap(words, other) > MAX_OVERLAP for other in own)
