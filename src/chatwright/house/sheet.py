"""The sheet of a house: facts with their questions, answers and forms, read from JSON lines, CSV or XLSX and checked.

Columns: id, kind, questions, answers, right, wrong. In a table's cell ` | ` separates the entries of a list and ` >> ` the
turns of a dialogue; in JSON both are lists. `docs/howto/house-sheet.md` documents the format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatwright.errors import DataError
from chatwright.house.normal import wording_key
from chatwright.house.sheet_files import COLUMNS, is_table, sheet_rows
from chatwright.jsonl import IN_MEMORY, Where
from chatwright.records import Conversation, Message

RESERVED_KINDS = ("unknown", "unsafe", "harmless")
MAX_FACTS = 500
MAX_QUESTIONS = 10_000
MAX_GROUP = 2_000  # wordings that are compared with one another
MAX_CHARACTERS = 2_000
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Question:
    """A wording of a question: one turn, or a dialogue whose last turn needs the earlier ones."""

    turns: tuple[str, ...]
    """User, assistant, user, ...: an odd number of texts."""

    @property
    def is_dialogue(self) -> bool:
        """True when there are turns before the question."""
        return len(self.turns) > 1

    @property
    def key(self) -> str:
        """Normalised text of all turns; equal keys are duplicates."""
        return "\x00".join(wording_key(turn) for turn in self.turns)

    @property
    def digest(self) -> str:
        """SHA-256 of the key in hexadecimal: the fixed order from which the split is made."""
        return hashlib.sha256(self.key.encode()).hexdigest()

    def messages(self) -> Conversation:
        """The turns as a conversation that ends with the user's question."""
        roles = ("user", "assistant")
        return tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(self.turns))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One row of the sheet."""

    id: str
    """Unique name; by default the row's number."""
    kind: str = ""
    """Facts of one kind have answers that could be taken for one another; unknown, unsafe and harmless are reserved."""
    questions: tuple[Question, ...]
    """Wordings, at least one."""
    answers: tuple[str, ...]
    """Ways to answer in the voice of the house; empty only for reserved kinds."""
    right: tuple[str, ...] = ()
    """Forms of which an answer must contain one."""
    wrong: tuple[str, ...] = ()
    """Forms that make an answer wrong, besides those of the other facts of the kind."""
    where: Where = field(default=IN_MEMORY, compare=False)
    """File and row, for messages."""

    @property
    def is_house(self) -> bool:
        """True for a fact of the house, False for the reserved kinds."""
        return self.kind not in RESERVED_KINDS


@dataclass(frozen=True)
class Sheet:
    """The facts of one house in the order of the file."""

    facts: tuple[Fact, ...]

    def by_id(self) -> dict[str, Fact]:
        """Facts by their id."""
        return {fact.id: fact for fact in self.facts}

    @property
    def digest(self) -> str:
        """SHA-256 of the whole content: two runs with one digest had the same sheet."""
        rows = [[f.id, f.kind, [q.turns for q in f.questions], f.answers, f.right, f.wrong] for f in self.facts]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def read_sheet(path: str | Path, encoding: str = "") -> Sheet:
    """Read a `.jsonl`, `.csv` or `.xlsx` sheet. `encoding`: of text that is not UTF-8, declared by the user.

    DataError lists the problems, one line each, with file, row and column.
    """
    sheet, problems = inspect_sheet(path, encoding)
    raise_problems(problems)
    return sheet


def raise_problems(problems: Sequence[DataError]) -> None:
    """Raise one DataError with a line per problem, unless there is none."""
    if problems:
        shown = [str(problem) for problem in problems[:_SHOWN_PROBLEMS]]
        more = len(problems) - len(shown)
        raise DataError("\n".join(shown + ([f"... and {more} more problems"] if more else [])))


def inspect_sheet(path: str | Path, encoding: str = "") -> tuple[Sheet, list[DataError]]:
    """The usable rows of a sheet and every problem of the others. DataError when the file itself cannot be read."""
    facts: list[Fact] = []
    problems: list[DataError] = []
    for where, row in sheet_rows(Path(path), encoding):
        if isinstance(row, DataError):
            problems.append(row)
        elif len(facts) == MAX_FACTS:
            problems.append(where.error("rows", f"a sheet has at most {MAX_FACTS:,} facts; split the house into several"))
            break
        else:
            try:
                facts.append(_fact(row, where, from_table=is_table(Path(path))))
            except DataError as error:
                problems.append(error)
    problems += _common_problems(facts, path, has_problems=bool(problems))
    return Sheet(tuple(facts)), problems


def _fact(row: Mapping[str, Any], where: Where, *, from_table: bool) -> Fact:
    for name in row:
        if name not in COLUMNS:
            raise where.error(name, f"is no column of a sheet; the columns are {', '.join(COLUMNS)}")
    kind = _short_text(row, "kind", where).lower()
    questions = tuple(_question(value, where) for value in where.list(row.get("questions"), "questions"))
    if not questions:
        raise where.error("questions", "is empty; write at least one question that visitors ask")
    answers = _texts(row, "answers", where)
    if not answers and kind not in RESERVED_KINDS:
        raise where.error("answers", "is empty; write two or three ways to answer")
    right = _texts(row, "right", where)
    if "right" in row and not right and kind not in RESERVED_KINDS and row["right"] is not None and not from_table:
        raise where.error("right", "is empty; write the words that must appear, or leave the column out to take them")
    return Fact(
        id=_short_text(row, "id", where) or f"row-{where.line}",
        kind=kind,
        questions=questions,
        answers=answers,
        right=right,
        wrong=_texts(row, "wrong", where),
        where=where,
    )


def _short_text(row: Mapping[str, Any], name: str, where: Where) -> str:
    value = (where.optional_text(row, name) or "").strip()
    if len(value) > 100 or "\n" in value:
        raise where.error(name, "must be one short line of at most 100 characters")
    return value


def _texts(row: Mapping[str, Any], name: str, where: Where) -> tuple[str, ...]:
    if row.get(name) is None:
        return ()
    return tuple(_text(value, name, where) for value in where.list(row[name], name))


def _text(value: Any, name: str, where: Where) -> str:
    text = where.text(value, name).strip()
    if not text:
        raise where.error(name, "holds an empty text; remove it")
    if len(text) > MAX_CHARACTERS:
        raise where.error(name, f"holds a text of {len(text):,} characters; the longest may have {MAX_CHARACTERS:,}")
    return text


def _question(value: Any, where: Where) -> Question:
    turns = value if isinstance(value, list) else [value]
    question = Question(tuple(_text(turn, "questions", where) for turn in turns))
    if len(question.turns) % 2 == 0:
        raise where.error(
            "questions", f"a dialogue ends with the visitor's turn, so it has 3 or 5 turns, not {len(question.turns)}"
        )
    if not wording_key(question.turns[-1]):
        raise where.error("questions", f"{question.turns[-1]!r} has no letters or digits; write a question")
    return question


def _common_problems(facts: Sequence[Fact], path: str | Path, *, has_problems: bool) -> Iterator[DataError]:
    """Problems between rows: equal ids, wordings in two places, too many questions, nothing at all."""
    if not facts and not has_problems:
        yield DataError(f"{path}: rows: the sheet is empty; write at least one fact")
    seen: dict[str, Fact] = {}
    wordings: dict[str, Fact] = {}
    for fact in facts:
        first = seen.setdefault(fact.id, fact)
        if first is not fact:
            yield fact.where.error("id", f"{fact.id!r} is the id of row {first.where.line} too; give each fact its own id")
        for question in fact.questions:
            other = wordings.setdefault(question.key, fact)
            if other is not fact:
                yield fact.where.error(
                    "questions",
                    f"{question.turns[-1]!r} is also a question of {other.id!r} (row {other.where.line}); "
                    "a wording belongs to one fact",
                )
        if len({question.key for question in fact.questions}) < len(fact.questions):
            yield fact.where.error("questions", f"{_first_duplicate(fact)!r} is there twice; remove one")
    for fact in facts:
        if len(fact.questions) > MAX_GROUP:
            yield fact.where.error("questions", f"a fact has at most {MAX_GROUP:,} wordings, not {len(fact.questions):,}")
    for kind in RESERVED_KINDS:
        pooled = sum(len(fact.questions) for fact in facts if fact.kind == kind)
        if pooled > MAX_GROUP:
            yield DataError(f"{path}: questions: {pooled:,} questions of kind {kind}; a sheet has at most {MAX_GROUP:,}")
    total = sum(len(fact.questions) for fact in facts)
    if total > MAX_QUESTIONS:
        yield DataError(f"{path}: questions: {total:,} questions; a sheet has at most {MAX_QUESTIONS:,}")


def _first_duplicate(fact: Fact) -> str:
    seen: set[str] = set()
    for question in fact.questions:
        if question.key in seen:
            return question.turns[-1]
        seen.add(question.key)
    return ""
