"""The split of questions into taught, ranked, held out and sealed: fixed by the hashes of their texts.

Each fact is split by itself; the questions of a reserved kind (unknown, unsafe, harmless) are split together. A group
depends on its own wordings only, so a new fact moves no question of another.

1. The wordings that share the fewest content words with the others of the group fill half of the held-out quota.
2. Held-out and sealed questions are filled in hash order. A question is taken only if enough questions that obey the
   overlap rule remain for the taught part.
3. Taught: the first in hash order that obey the overlap rule. 4. Ranked: all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from chatwright.house.language import Language
from chatwright.house.overlap import MAX_OVERLAP, content_words, overlap
from chatwright.house.sheet import RESERVED_KINDS, Fact, Question, Sheet

Part = Literal["taught", "ranked", "held_out", "sealed"]
PARTS: tuple[Part, ...] = ("taught", "ranked", "held_out", "sealed")
_SHARES: dict[Part, int] = {"taught": 6, "ranked": 6, "held_out": 4, "sealed": 2}
_RESERVED_SHARES: dict[Part, int] = {"taught": 60, "ranked": 60, "held_out": 40, "sealed": 20}
_MIN_FOR_SEALED = 6
_FIRST_SERVED: tuple[Part, ...] = ("taught", "held_out", "ranked", "sealed")


@dataclass(frozen=True)
class HouseQuestion:
    """A question with the fact that answers it."""

    fact: Fact
    question: Question

    def prompt_meta(self) -> dict[str, str]:
        """Fields of the prompt's row by which the judge finds the fact again."""
        return {"fact": self.fact.id, "kind": self.fact.kind}


@dataclass(frozen=True)
class Split:
    """The three parts that training and evaluation may read. The sealed part is read by `read_sealed` alone."""

    taught: tuple[HouseQuestion, ...]
    """Questions with demonstrations."""
    ranked: tuple[HouseQuestion, ...]
    """Questions that are sampled and ranked, then PPO's prompts."""
    held_out: tuple[HouseQuestion, ...]
    """Questions of the evaluation."""
    sealed_count: int
    """Number of sealed questions."""


def split_sheet(sheet: Sheet, language: Language) -> Split:
    """Parts of all questions but the sealed ones, in the order of the sheet."""
    parts = _parts(sheet, language)
    return Split(
        taught=tuple(parts["taught"]),
        ranked=tuple(parts["ranked"]),
        held_out=tuple(parts["held_out"]),
        sealed_count=len(parts["sealed"]),
    )


def read_sealed(sheet: Sheet, language: Language) -> tuple[HouseQuestion, ...]:
    """The sealed questions. For the one evaluation at the very end: call it nowhere else."""
    return tuple(_parts(sheet, language)["sealed"])


def quotas(count: int, shares: dict[Part, int]) -> dict[Part, int]:
    """Number of questions, of `count`, for each part: in proportion to the shares, at least one each in the order taught,
    held out, ranked while there are any, the rest by largest remainder. Fewer than six questions have no sealed one.
    """
    shares = {part: share for part, share in shares.items() if part != "sealed" or count >= _MIN_FOR_SEALED}
    exact = {part: count * share / sum(shares.values()) for part, share in shares.items()}
    given = {part: int(value) for part, value in exact.items()}
    for part in _FIRST_SERVED[: min(count, 3)]:
        given[part] = max(given[part], 1)
    while sum(given.values()) < count:
        given[min(given, key=lambda part: (given[part] - exact[part], _FIRST_SERVED.index(part)))] += 1
    return {"sealed": 0, **given}


def fact_quotas(count: int) -> dict[Part, int]:
    """Number of wordings, of a fact's `count`, for each part when they differ enough."""
    return quotas(count, _SHARES)


def split_group(
    entries: Sequence[HouseQuestion], language: Language, shares: dict[Part, int]
) -> dict[Part, list[HouseQuestion]]:
    """Parts of one group. The order of `entries` does not matter."""
    ordered = sorted(entries, key=lambda entry: entry.question.digest)
    words = [content_words(entry.question, language) for entry in ordered]
    group = _Group(words, quotas(len(ordered), shares))
    assignment = group.assign()
    parts: dict[Part, list[HouseQuestion]] = {part: [] for part in PARTS}
    for index, part in enumerate(assignment):
        parts[part].append(ordered[index])
    return parts


class _Group:
    """Assignment of one group's questions, by their index in hash order."""

    def __init__(self, words: Sequence[frozenset[str]], quota: dict[Part, int]) -> None:
        self.words, self.quota = words, quota
        self.indices = range(len(words))
        # conflicts[i]: questions that may not be taught when i is held out or sealed
        self.conflicts = [
            {j for j in self.indices if j != i and overlap(words[i], words[j]) > MAX_OVERLAP} for i in self.indices
        ]
        self.tested: set[int] = set()
        self.blocked: set[int] = set()

    def assign(self) -> list[Part]:
        """The part of every question. Quotas of held-out and sealed are not filled where the overlap rule forbids it."""
        hard = sorted(self.indices, key=lambda i: (self._mean_overlap(i), i))
        hardest = self._take(hard, -(-self.quota["held_out"] // 2))
        held_out = hardest + self._take(self.indices, self.quota["held_out"] - len(hardest))
        sealed = self._take(self.indices, self.quota["sealed"])
        free = [i for i in self.indices if i not in self.tested]
        taught = [i for i in free if i not in self.blocked][: self.quota["taught"]]
        parts: list[Part] = ["ranked"] * len(self.indices)
        by_part: tuple[tuple[Part, list[int]], ...] = (("held_out", held_out), ("sealed", sealed), ("taught", taught))
        for part, members in by_part:
            for i in members:
                parts[i] = part
        return parts

    def _mean_overlap(self, i: int) -> float:
        others = [overlap(self.words[i], self.words[j]) for j in self.indices if j != i]
        return sum(others) / len(others) if others else 0.0

    def _take(self, order: Iterable[int], count: int) -> list[int]:
        members: list[int] = []
        for i in order:
            if len(members) == count:
                break
            if i in self.tested:
                continue
            tested, blocked = self.tested | {i}, self.blocked | self.conflicts[i]
            if len(self.indices) - len(tested | blocked) >= self.quota["taught"]:
                self.tested, self.blocked = tested, blocked
                members.append(i)
        return members


def _parts(sheet: Sheet, language: Language) -> dict[Part, list[HouseQuestion]]:
    parts: dict[Part, list[HouseQuestion]] = {part: [] for part in PARTS}
    for group, shares in _groups(sheet):
        for part, entries in split_group(group, language, shares).items():
            parts[part] += entries
    return parts


def _groups(sheet: Sheet) -> Iterable[tuple[list[HouseQuestion], dict[Part, int]]]:
    for fact in sheet.facts:
        if fact.is_house:
            yield [HouseQuestion(fact, question) for question in fact.questions], _SHARES
    for kind in RESERVED_KINDS:
        pooled = [HouseQuestion(fact, question) for fact in sheet.facts if fact.kind == kind for question in fact.questions]
        if pooled:
            yield pooled, _RESERVED_SHARES
