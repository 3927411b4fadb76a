"""Rankings with ties as one value: `D>C>A=B`. Pairs are derived from it, never stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chatwright.errors import DataError

LETTERS = "ABCDEFGHI"
MIN_K, MAX_K = 2, 9


@dataclass(frozen=True)
class WeakOrder:
    """A ranking with ties of K = 2..9 answers: `ranks[i]` is the level of answer i (1 is best, levels dense)."""

    ranks: tuple[int | None, ...]
    """None: unranked, which is not the same as tied; an unranked answer makes no pairs."""

    def __post_init__(self) -> None:
        if not MIN_K <= len(self.ranks) <= MAX_K:
            raise DataError(f"a ranking has {MIN_K} to {MAX_K} answers, not {len(self.ranks)}")
        levels = sorted({rank for rank in self.ranks if rank is not None})
        if not levels:
            raise DataError("a ranking needs at least one ranked answer")
        if levels != list(range(1, len(levels) + 1)):
            raise DataError(f"levels must be 1, 2, ... without a gap, not {levels}")

    @classmethod
    def parse(cls, text: str, k: int, unranked: Iterable[str] = ()) -> WeakOrder:
        """Read `D>C>A=B` for K answers; `unranked` lists the letters left out on purpose.

        Blanks and small letters are allowed. DataError when a letter is missing, repeated or beyond K.
        """
        if not MIN_K <= k <= MAX_K:
            raise DataError(f"a ranking has {MIN_K} to {MAX_K} answers, not {k}")
        ranks: list[int | None] = [None] * k
        seen: set[int] = set()
        for level, group in enumerate(text.split(">"), start=1):
            for name in group.split("="):
                index = letter_index(name, k)
                if index in seen:
                    raise DataError(f"{LETTERS[index]} appears twice in {text!r}")
                seen.add(index)
                ranks[index] = level
        left_out = {letter_index(name, k) for name in unranked}
        if both := seen & left_out:
            raise DataError(f"{LETTERS[min(both)]} is ranked and listed as unranked")
        if missing := set(range(k)) - seen - left_out:
            letters = ", ".join(LETTERS[i] for i in sorted(missing))
            raise DataError(f'{letters} missing in {text!r}; rank it or list it in "unranked"')
        return cls(tuple(ranks))

    @classmethod
    def from_ranks(cls, ranks: Sequence[float | None]) -> WeakOrder:
        """From any numbers where lower is better (gaps allowed, equal numbers tie, None is unranked)."""
        values = _finite(ranks)
        levels = {value: level for level, value in enumerate(sorted({v for v in values if v is not None}), 1)}
        return cls(tuple(None if v is None else levels[v] for v in values))

    @classmethod
    def from_scores(cls, scores: Sequence[float | None], tie_width: float = 0.0) -> WeakOrder:
        """From scores where higher is better; a score within `tie_width` of the best of its level ties with it."""
        if not tie_width >= 0:
            raise DataError(f"tie_width must be 0 or more, not {tie_width}")
        values = _finite(scores)
        ranks: list[int | None] = [None] * len(values)
        level, top = 0, math.inf
        for score, i in sorted(((v, i) for i, v in enumerate(values) if v is not None), reverse=True):
            if level == 0 or top - score > tie_width:
                level, top = level + 1, score
            ranks[i] = level
        return cls(tuple(ranks))

    @property
    def k(self) -> int:
        """Number of answers, ranked or not."""
        return len(self.ranks)

    @property
    def unranked(self) -> tuple[str, ...]:
        """Letters of the unranked answers."""
        return tuple(LETTERS[i] for i, rank in enumerate(self.ranks) if rank is None)

    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Answer indices level by level, best first, ascending inside a level."""
        top = max(rank for rank in self.ranks if rank is not None)
        return tuple(tuple(i for i, r in enumerate(self.ranks) if r == level) for level in range(1, top + 1))

    def __str__(self) -> str:
        return ">".join("=".join(LETTERS[i] for i in level) for level in self.levels())

    def pairs(self) -> tuple[tuple[int, int, int], ...]:
        """All pairs (i, j, relation) with i < j of ranked answers: +1 when i wins, -1 when j wins, 0 for a tie."""
        ranked = [(i, rank) for i, rank in enumerate(self.ranks) if rank is not None]
        return tuple(
            (i, j, (rank_i < rank_j) - (rank_i > rank_j))
            for n, (i, rank_i) in enumerate(ranked)
            for j, rank_j in ranked[n + 1 :]
        )

    def strict_pairs(self) -> tuple[tuple[int, int], ...]:
        """(winner, loser) of every pair that is not a tie."""
        return tuple((i, j) if relation > 0 else (j, i) for i, j, relation in self.pairs() if relation)


def letter_index(name: str, k: int = MAX_K) -> int:
    """Index of an answer letter among K; DataError when it is none of them."""
    index = LETTERS.find(name.strip().upper()) if len(name.strip()) == 1 and name.strip().isascii() else -1
    if not 0 <= index < k:
        raise DataError(
            f"{name.strip()!r} is not one of the letters {LETTERS[0]}..{LETTERS[k - 1]}; "
            "write a ranking like D>C>A=B, best first"
        )
    return index


def _finite(values: Sequence[float | None]) -> list[float | None]:
    if any(value is not None and not math.isfinite(value) for value in values):
        raise DataError(f"scores and ranks must be finite numbers, not {list(values)}")
    return list(values)
