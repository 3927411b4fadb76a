"""Everything that is checked on a house's sheet before it is taught, and the report of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatwright.house import findings
from chatwright.house.folder import House, inspect_house
from chatwright.house.judge import Judge
from chatwright.house.language import Language
from chatwright.house.sheet import RESERVED_KINDS, Sheet
from chatwright.house.split import PARTS, HouseQuestion, Split, split_sheet

MIN_FACTS, MIN_WORDINGS = 48, 16
MIN_RESERVED = {"unknown": 180, "unsafe": 116, "harmless": 72}
MIN_DIALOGUE_SHARE = 0.08


@dataclass(frozen=True, kw_only=True)
class HouseReport:
    """Result of checking a house."""

    house: House
    """The house with the usable rows, default answers and added rows."""
    split: Split
    """Their parts."""
    problems: tuple[str, ...]
    """One line each: file, row, column, what to do. A house with problems is not taught."""
    advice: tuple[str, ...] = ()
    """Lines of the same kind about what would make the house better."""
    derived_right: dict[str, tuple[str, ...]]
    """Right forms that were taken from answers, by fact."""

    @property
    def sheet(self) -> Sheet:
        """The usable rows."""
        return self.house.sheet

    @property
    def summary(self) -> str:
        """Number of problems in words."""
        return "1 problem" if len(self.problems) == 1 else f"{len(self.problems) or 'no'} problems"

    def text(self, *, with_split: bool = False, max_lines: int = 0) -> str:
        """The report in plain text. `max_lines`: of each list of findings; 0 for all."""
        lines = [f"{self.house.path}: language {self.house.language.name}"]
        lines += [*self._counts()] if self.split.taught else []
        lines += [
            f"added {count} bundled questions of kind {kind}, with the house's sentence as their answer "
            "(add_bundled = false in house.toml leaves them out)"
            for kind, count in self.house.added.items()
        ]
        lines += [
            f"{fact}: right forms taken from its answers: {', '.join(forms)}" for fact, forms in self.derived_right.items()
        ]
        if with_split:
            for part, entries in _visible_parts(self.split):
                lines += [f"{part}\t{a.fact.id}\t{' >> '.join(a.question.turns)}" for a in entries]
        lines += [f"advice: {line}" for line in _cut(self.advice, max_lines)]
        lines += _cut(self.problems, max_lines)
        lines.append(self.summary)
        return "\n".join(lines)

    def _counts(self) -> Iterator[str]:
        kinds = Counter(fact.kind or "(no kind)" for fact in self.sheet.facts if fact.is_house)
        yield "facts by kind: " + ", ".join(f"{kind} {count}" for kind, count in kinds.items())
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


def _cut(lines: Sequence[str], most: int) -> list[str]:
    if not most or len(lines) <= most:
        return list(lines)
    return [*lines[:most], f"... and {len(lines) - most} more"]


def check_house(folder: Path, language: str = "", *, encoding: str = "", quota: bool = False) -> HouseReport:
    """Check a house. DataError when its sheet cannot be read at all; every other problem is in the report."""
    house, errors = inspect_house(folder, language, encoding)
    problems = [str(error) for error in errors]
    if errors:  # a sheet that cannot be read as a whole has no parts yet
        empty = Split(taught=(), ranked=(), held_out=(), sealed_count=0)
        return HouseReport(house=house, split=empty, problems=tuple(problems), derived_right={})
    problems += findings.size_problems(house)
    advice = [*findings.row_advice(house)]
    derived: dict[str, tuple[str, ...]] = {}
    if bad_forms := findings.form_problems(house):
        problems += [str(error) for error in bad_forms]
    else:
        judge = Judge(house.sheet, house.language)
        derived = {fact: forms.derived_right for fact, forms in judge.forms.items() if forms.derived_right}
        problems += [str(error) for error in findings.own_answer_problems(house, judge)]
        problems += findings.sentence_problems(house, judge)
        advice += findings.confusion_advice(house, judge)
    split = split_sheet(house.sheet, house.language)
    problems += findings.wording_problems(house, split)
    advice += findings.wording_advice(house, split)
    if quota:
        problems += _quota_problems(house.path, house.sheet, split, house.language)
    return HouseReport(house=house, split=split, problems=tuple(problems), advice=tuple(advice), derived_right=derived)


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
