"""How well vectors find what belongs together: recall@1 and nearest-neighbour accuracy on held-out pairs.

Shapes: N pairs, M distinct texts, W numbers of a vector, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chatwright.data.pairs import Pair, text_key
from chatwright.errors import DataError
from chatwright.statistics.bootstrap import Floats, Interval, ratio_interval, statistic_interval


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Hits of one set of vectors on one set of pairs, by group: groups are what the bootstrap draws."""

    num_pairs: int
    recall_hits_G: Floats
    """Queries of a group whose nearest passage, of all passages, is theirs."""
    num_queries_G: Floats
    neighbour_hits_G: Floats
    """Texts of a group whose nearest other text, of all texts, belongs to them."""
    num_texts_G: Floats

    @property
    def recall(self) -> Interval:
        """Share of queries whose nearest passage is right."""
        return ratio_interval(self.recall_hits_G, self.num_queries_G)

    @property
    def neighbours(self) -> Interval:
        """Share of texts whose nearest other text is right."""
        return ratio_interval(self.neighbour_hits_G, self.num_texts_G)

    def summary(self) -> str:
        """One line."""
        recall, near = self.recall, self.neighbours
        return (
            f"recall@1 {recall.value:.3f} ({recall.low:.3f} to {recall.high:.3f}), nearest neighbour right "
            f"{near.value:.3f} ({near.low:.3f} to {near.high:.3f}), {self.num_pairs} pairs"
        )

    def to_dict(self) -> dict[str, Any]:
        """Figures with their intervals, for JSON."""
        figures = {"recall_at_1": self.recall, "neighbour_accuracy": self.neighbours}
        return {"pairs": self.num_pairs, "groups": len(self.num_queries_G)} | {
            name: [round(number, 4) for number in (i.value, i.low, i.high)] for name, i in figures.items()
        }


def gain(better: Sequence[Retrieval], worse: Sequence[Retrieval]) -> Interval:
    """Recall@1 of `better` less that of `worse` on the same pairs (several sources: all their pairs together). The
    bootstrap draws whole groups, the same ones for both sides."""
    pairs = list(zip(better, worse, strict=True))
    if any(not np.array_equal(a.num_queries_G, b.num_queries_G) for a, b in pairs):
        raise DataError("a gain is measured on the same pairs; these are different ones")
    hits_G = np.concatenate([a.recall_hits_G - b.recall_hits_G for a, b in pairs])
    num_G = np.concatenate([a.num_queries_G for a, _ in pairs])
    return statistic_interval(len(hits_G), lambda picked: float(hits_G[picked].sum() / num_G[picked].sum()))


def measure(pairs: Sequence[Pair], query_NW: np.ndarray, passage_NW: np.ndarray) -> Retrieval:
    """Hits of unit vectors. The pool of a query is every distinct passage of `pairs`; right are those of its group, and
    those it is paired with under another. Neighbours: the pool of a text is every other distinct text.

    DataError without pairs.
    """
    if not pairs:
        raise DataError("there are no held-out pairs to measure on")
    queries = _Texts([pair.query for pair in pairs], pairs, query_NW)
    passages = _Texts([pair.passage for pair in pairs], pairs, passage_NW)
    units = {unit: n for n, unit in enumerate(dict.fromkeys(pair.unit for pair in pairs))}
    recall = np.zeros((2, len(units)))
    nearest = _nearest(queries.vectors, passages.vectors)
    for place, best in enumerate(nearest):
        unit = units[min(queries.units[place], key=units.__getitem__)]
        recall[:, unit] += (bool(queries.units[place] & passages.units[best]), 1)
    both = _Texts(
        [text for pair in pairs for text in (pair.query, pair.passage)],
        [pair for pair in pairs for _ in range(2)],
        np.stack([query_NW, passage_NW], axis=1).reshape(2 * len(pairs), -1),
    )
    near = np.zeros((2, len(units)))
    for place, best in enumerate(_nearest(both.vectors, both.vectors, itself=False)):
        unit = units[min(both.units[place], key=units.__getitem__)]
        near[:, unit] += (bool(both.units[place] & both.units[best]), 1)
    return Retrieval(
        num_pairs=len(pairs), recall_hits_G=recall[0], num_queries_G=recall[1], neighbour_hits_G=near[0], num_texts_G=near[1]
    )


class _Texts:
    """Distinct texts with the groups they occur in and a vector each."""

    def __init__(self, texts: Sequence[str], pairs: Sequence[Pair], vectors: np.ndarray) -> None:
        self.units: list[set[str]] = []
        places: dict[str, int] = {}
        firsts = []
        for row, (text, pair) in enumerate(zip(texts, pairs, strict=True)):
            place = places.setdefault(text_key(text), len(places))
            if place == len(self.units):
                self.units.append(set())
                firsts.append(row)
            self.units[place].add(pair.unit)
        self.vectors = np.asarray(vectors, dtype=np.float32)[firsts]


def _nearest(rows: np.ndarray, pool: np.ndarray, *, itself: bool = True) -> list[int]:
    """For each row the place of the nearest of the pool; `itself` False: not the one at its own place."""
    out: list[int] = []
    for at in range(0, len(rows), 1024):
        cosines = rows[at : at + 1024] @ pool.T
        if not itself:
            cosines[np.arange(len(cosines)), at + np.arange(len(cosines))] = -np.inf
        out += cosines.argmax(axis=1).tolist()
    return out
