"""The board of models from votes on pairs of answers; the fit is `statistics/bradley_terry.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.statistics.bootstrap import percentiles
from chatwright.statistics.bradley_terry import fit

Floats = npt.NDArray[np.float64]
SCALE, BASE, CENTRE = 400.0, 10.0, 1000.0  # Elo's units: 400 points are odds of ten to one; the mean of all is 1000


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One comparison."""

    a: str
    b: str
    outcome: float
    """1: a is better; 0: b is better; 0.5: a tie."""
    length_a: int = 0
    """Characters of a's answer."""
    length_b: int = 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A line of the board."""

    name: str
    rating: float
    """Elo points, see `SCALE`."""
    low: float
    high: float
    """Middle 95 % of the bootstrap draws."""
    num_votes: int
    win_rate: float
    """Share of votes won, ties as halves."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """All models, the strongest first."""

    standings: tuple[Standing, ...]
    num_votes: int
    length_effect: float
    regularised: bool


def board(votes: Sequence[Vote], *, length_control: bool = False, draws: int = 200, seed: int = 0) -> Board:
    """Ratings of every model that has a vote, with percentile intervals over votes drawn with replacement."""
    names = sorted({name for vote in votes for name in (vote.a, vote.b)})
    if not votes:
        return Board(standings=(), num_votes=0, length_effect=0.0, regularised=False)
    place = {name: i for i, name in enumerate(names)}
    a = np.array([place[vote.a] for vote in votes], dtype=np.int64)
    b = np.array([place[vote.b] for vote in votes], dtype=np.int64)
    outcomes = np.array([vote.outcome for vote in votes], dtype=np.float64)
    lengths = relative_lengths(votes) if length_control else None
    whole = fit(a, b, outcomes, len(names), lengths=lengths)
    random = np.random.default_rng(seed)
    drawn = np.empty((draws, len(names)))
    for i in range(draws):
        counts = np.bincount(random.integers(0, len(votes), len(votes)), minlength=len(votes)).astype(np.float64)
        drawn[i] = fit(a, b, outcomes, len(names), weights=counts, lengths=lengths).values
    num = np.bincount(a, minlength=len(names)) + np.bincount(b, minlength=len(names))
    won = np.bincount(a, outcomes, len(names)) + np.bincount(b, 1 - outcomes, len(names))
    standings = []
    for i, name in enumerate(names):
        low, high = percentiles(rating_of(drawn[:, i]))
        rating = float(rating_of(whole.values[i]))
        standings.append(
            Standing(name=name, rating=rating, low=low, high=high, num_votes=int(num[i]), win_rate=float(won[i] / num[i]))
        )
    standings.sort(key=lambda standing: (-standing.rating, standing.name))
    return Board(
        standings=tuple(standings), num_votes=len(votes), length_effect=whole.length_effect, regularised=whole.regularised
    )


def rating_of(values: npt.ArrayLike) -> Floats:
    """Strengths in nats as Elo points."""
    return np.asarray(CENTRE + SCALE / np.log(BASE) * np.asarray(values, dtype=np.float64))


def relative_lengths(votes: Sequence[Vote]) -> Floats:
    """(length a - length b) / (length a + length b) per vote [V]; 0 for two empty answers."""
    a = np.array([vote.length_a for vote in votes], dtype=np.float64)
    b = np.array([vote.length_b for vote in votes], dtype=np.float64)
    return np.asarray((a - b) / np.maximum(a + b, 1.0))
