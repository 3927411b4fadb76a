"""Everything that is checked on a house's sheet before it is taught, and the report of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chatwright.errors import DataError
from chatwright.house.judge import Judge, answer_problems
from chatwright.house.language import LANGUAGES, Language, load_language
from chatwright.house.sheet import RESERVED_KINDS, Sheet, inspect_sheet
from chatwright.house.split import PARTS, HouseQuestion, Split, split_sheet

MIN_FACTS, MIN_WORDINGS = 48, 16
MIN_RESERVED = {"unknown": 180, "unsafe": 116, "harmless": 72}
MIN_DIALOGUE_SHARE = 0.08


@dataclass(frozen=True)
class HouseReport:
    """Result of checking a sheet."""

    sheet: Sheet
    """The usable rows."""
    split: Split
    """Their parts."""
    problems: tuple[str, ...]
    """One line each: file, row, column, what to do."""
    derived_right: dict[str, tuple[str, ...]]
    """Right forms that were taken from answers, by fact."""

    def text(self, *, with_split: bool = False) -> str:
        """The report in plain text."""
        lines = [*self._counts()] if self.split.taught else []
        lines += [
            f"{fact}: right forms taken from its answers: {', '.join(forms)}" for fact, forms in self.derived_right.items()
        ]
        if with_split:
            for part, entries in _visible_parts(self.split):
                lines += [f"{part}\t{a.fact.id}\t{' >> '.join(a.question.turns)}" for a in entries]
        lines += self.problems
        lines.append(f"{len(self.problems)} problems" if self.problems else "no problems")
        return "\n".join(lines)

    def _counts(self) -> Iterator[str]:
        for kind in ("facts of the house", *RESERVED_KINDS):
            facts = [f for f in self.sheet.facts if (f.kind == kind if kind in RESERVED_KINDS else f.is_house)]
            questions = [q for f in facts for q in f.questions]
            dialogues = sum(q.is_dialogue for q in questions)
            per_part = Counter(
                part
                for part, entries in _visible_parts(self.split)
                for a in entries
                if (a.fact.kind == kind if kind in RESERVED_KINDS else a.fact.is_house)
            )
            shown = ", ".join(f"{part.replace('_', ' ')} {per_part[part]}" for part in PARTS[:3])
            sealed = len(questions) - sum(per_part.values())
            yield (
                f"{kind}: {len(facts)} rows, {len(questions)} questions ({dialogues} dialogues): {shown}, sealed {sealed}"
            )


def _visible_parts(split: Split) -> list[tuple[str, tuple[HouseQuestion, ...]]]:
    return [("taught", split.taught), ("ranked", split.ranked), ("held_out", split.held_out)]


def sheet_path(folder: Path) -> Path:
    """The sheet in a folder: facts.jsonl or facts.csv. DataError when there is none or both."""
    if folder.is_file():
        return folder
    found = [folder / name for name in ("facts.jsonl", "facts.csv") if (folder / name).is_file()]
    if len(found) != 1:
        what = "both facts.jsonl and facts.csv; keep one" if found else "no facts.jsonl or facts.csv; write one"
        raise DataError(f"{folder}: holds {what}")
    return found[0]


def check_house(folder: Path, language: str = "", *, quota: bool = False) -> HouseReport:
    """Check a sheet. DataError when it cannot be read at all; every other problem is in the report."""
    path = sheet_path(folder)
    name = language or next((lang for lang in LANGUAGES if lang in (folder.name, path.parent.name)), "en")
    lists = load_language(name)
    sheet, errors = inspect_sheet(path)
    problems = [str(error) for error in errors]
    if errors:  # a sheet that cannot be read as a whole has no parts yet
        return HouseReport(sheet, Split(taught=(), ranked=(), held_out=(), sealed_count=0), tuple(problems), {})
    derived: dict[str, tuple[str, ...]] = {}
    try:
        judge = Judge(sheet, lists)
        derived = {fact: forms.derived_right for fact, forms in judge.forms.items() if forms.derived_right}
        problems += [str(error) for error in answer_problems(sheet, judge)]
    except DataError as error:
        problems.append(str(error))
    split = split_sheet(sheet, lists)
    problems += _wording_problems(sheet, split)
    if quota:
        problems += _quota_problems(path, sheet, split, lists)
    return HouseReport(sheet, split, tuple(problems), derived)


def _wording_problems(sheet: Sheet, split: Split) -> Iterator[str]:
    held_out = Counter(entry.fact.id for entry in split.held_out)
    for fact in sheet.facts:
        if fact.is_house and not held_out[fact.id]:
            yield str(
                fact.where.error(
                    "questions",
                    f"{fact.id!r} has no wording that can be held out; add two or three in quite other words",
                )
            )


def _quota_problems(path: Path, sheet: Sheet, split: Split, language: Language) -> Iterator[str]:
    house = [fact for fact in sheet.facts if fact.is_house]
    if len(house) < MIN_FACTS:
        yield f"{path}: rows: {len(house)} facts; a bundled house has at least {MIN_FACTS}"
    counts = {part: Counter(a.fact.id for a in entries) for part, entries in _visible_parts(split)}
    for fact in house:
        total = len(fact.questions)
        got = {part: counts[part][fact.id] for part in counts} | {"sealed": 0}
        got["sealed"] = total - sum(got.values())
        if total < MIN_WORDINGS:
            yield str(fact.where.error("questions", f"{fact.id!r} has {total} wordings; write at least {MIN_WORDINGS}"))
        elif got["taught"] < 5 or got["held_out"] < 4 or got["sealed"] < 2:
            yield str(
                fact.where.error(
                    "questions", f"{fact.id!r} splits into {got}; too many wordings share their words: rewrite some"
                )
            )
        if not 2 <= len(fact.answers) <= 3:
            yield str(fact.where.error("answers", f"{fact.id!r} has {len(fact.answers)} answers; write two or three"))
    yield from _reserved_problems(path, sheet, split)
    dialogues = [question.is_dialogue for fact in house for question in fact.questions]
    if dialogues and sum(dialogues) < MIN_DIALOGUE_SHARE * len(dialogues):
        yield f"{path}: questions: {sum(dialogues)} of {len(dialogues)} are dialogues; one in ten should be"


def _reserved_problems(path: Path, sheet: Sheet, split: Split) -> Iterator[str]:
    for kind, least in MIN_RESERVED.items():
        total = sum(len(fact.questions) for fact in sheet.facts if fact.kind == kind)
        if total < least:
            yield f"{path}: questions: {total} of kind {kind}; a bundled house has at least {least}"
        for part, entries in _visible_parts(split):
            share = {"taught": 3, "ranked": 3, "held_out": 2}[part] / 9
            got = sum(a.fact.kind == kind for a in entries)
            if got < int(least * share * 0.95):
                yield f"{path}: questions: kind {kind} has only {got} {part} questions; write more that differ"
