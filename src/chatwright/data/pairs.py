"""Pairs of texts that mean the same or belong together: what `chatwright embed-train` learns from. No torch.

A row is `{"query": "...", "passage": "...", "source": "...", "group": "..."}`; source and group may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatwright.data.cursor import Order
from chatwright.data.splits import split_by
from chatwright.errors import DataError
from chatwright.jsonl import IN_MEMORY, Where
from chatwright.records.load import Paths, load_rows
from chatwright.records.sameness import normalised


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two texts that belong together."""

    query: str
    """A name, a question, a title."""
    passage: str
    """A name in another language, an answer, a text."""
    source: str = ""
    """Where it comes from; a batch holds pairs of one source, and figures are given by source."""
    group: str = ""
    """What a split must not tear apart (a document, a code point), and within which no text is another's negative."""

    @property
    def unit(self) -> str:
        """The group, or the pair itself when it has none."""
        return self.group or f"{self.query}\t{self.passage}"

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines."""
        known = {"source": self.source, "group": self.group}
        return {"query": self.query, "passage": self.passage} | {name: value for name, value in known.items() if value}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Pair:
        """From `{"query", "passage", ...}`; DataError names the field. Other fields are left alone."""
        texts = {name: where.text(row.get(name), name) for name in ("query", "passage")}
        for name, text in texts.items():
            if not text.strip():
                raise where.error(name, "is empty")
        rest = {name: where.optional_text(row, name) or "" for name in ("source", "group")}
        return cls(**texts, **rest)


def load_pairs(paths: Paths, *, bad: list[DataError] | None = None) -> list[Pair]:
    """All pairs of the files. Bad rows: see `chatwright.records.load.load_rows`."""
    return load_rows(paths, Pair.from_dict, bad=bad)


def text_key(text: str) -> str:
    """Texts with the same key count as the same text."""
    return normalised(text)


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """Without pairs that say the same again, either way round, and without pairs of a text with itself; first ones stay."""
    seen: set[frozenset[str]] = set()
    kept = []
    for pair in pairs:
        key = frozenset((text_key(pair.query), text_key(pair.passage)))
        if len(key) == 2 and key not in seen:
            seen.add(key)
            kept.append(pair)
    return kept


def split_pairs(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(training, held-out): about `share` of the groups of every source is held out, and nothing of it is trained on.

    A group of several sources is held out of all of them. Training pairs that share a text with a held-out one, though
    they belong to another group, are left out.
    """
    train, held = split_by(pairs, lambda pair: pair.unit, share, seed)
    known = {text_key(text) for pair in held for text in (pair.query, pair.passage)}
    return [p for p in train if not {text_key(p.query), text_key(p.passage)} & known], held


class SourceOrder:
    """Which pairs are in a step: all of one source, in an order of its own. The whole state is the step.

    A batch of one source has negatives that are hard to tell apart; pairs of several would be told apart by their
    language or length. Sources take turns with probability proportional to the number of their pairs to the power
    `alpha`: 1 goes through all pairs evenly, 0 gives every source the same number of steps.
    """

    def __init__(self, pairs: Sequence[Pair], *, alpha: float, seed: int) -> None:
        if not pairs:
            raise DataError("there are no pairs to go through; give at least one")
        places: dict[str, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault(pair.source, []).append(place)
        self.places = dict(sorted(places.items()))
        weights = {name: len(rows) ** alpha for name, rows in self.places.items()}
        total = sum(weights.values())
        self.shares = {name: weight / total for name, weight in weights.items()}
        self._orders = {name: Order(len(rows), seed) for name, rows in self.places.items()}
        self._turns = _Turns(list(self.shares.values()))

    def source(self, step: int) -> str:
        """The source of 0-based `step`."""
        return list(self.places)[self._turns.at(step)[0]]

    def batch(self, step: int, batch_size: int) -> list[int]:
        """Places of the pairs of step `step`: at most `batch_size`, all different."""
        index, turn = self._turns.at(step)
        name = list(self.places)[index]
        places = self.places[name]
        size = min(batch_size, len(places))
        per_pass = len(places) // size  # a batch never goes on into the next pass: a pair would be its own negative
        number, place = divmod(turn, per_pass)
        return [places[n] for n in self._orders[name].permutation(number)[place * size : (place + 1) * size]]


class _Turns:
    """Who takes turn n when turns are shared out by weights: at each step the one that lags most behind its share."""

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = shares
        self.taken: list[int] = [0] * len(shares)
        self.sequence: list[tuple[int, int]] = []
        """(who, how many turns it had before) of every step so far."""

    def at(self, step: int) -> tuple[int, int]:
        while len(self.sequence) <= step:
            done = len(self.sequence) + 1
            behind = [done * share - taken for share, taken in zip(self.shares, self.taken, strict=True)]
            who = max(range(len(behind)), key=lambda n: (behind[n], -n))
            self.sequence.append((who, self.taken[who]))
            self.taken[who] += 1
        return self.sequence[step]
