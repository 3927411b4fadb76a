"""Strengths of models from votes on pairs of answers: Bradley-Terry with ties as half wins.

P(a beats b) = sigmoid(s_a - s_b); a tie counts half for either side, as in FastChat's published ratings (a logistic
regression without intercept on all votes). With length control the model also has a term g * (length of a - length of b) /
(length of a + length of b), so that strengths are compared at equal length (style control of the same project).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.evals.bootstrap import percentiles
from chatwright.evals.ties import sigmoid

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SCALE, BASE, CENTRE = 400.0, 10.0, 1000.0  # Elo's units: 400 points are odds of ten to one; the mean of all is 1000
RIDGE = 0.1  # weight of the prior where the votes alone give no finite strengths
_STEPS, _TOLERANCE = 200, 1e-10


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
class Strengths:
    """Maximum-likelihood strengths."""

    values: Floats
    """Per model [M], in nats of log odds; their mean is 0."""
    length_effect: float = 0.0
    """Log odds won by an answer that is endlessly longer; 0 without length control."""
    regularised: bool = False
    """The votes alone give no finite strengths (somebody won or lost everything), so a weak normal prior was added."""


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


def fit(
    a: Ints, b: Ints, outcomes: Floats, num_models: int, *, weights: Floats | None = None, lengths: Floats | None = None
) -> Strengths:
    """Strengths of `num_models` from votes [V].

    Args:
        a, b: indices of the two models; outcomes: 1, 0 or 0.5 for a.
        weights: how often each vote counts; None: once.
        lengths: relative length differences in [-1, 1]; None: no length control.
    """
    weights = np.ones(len(a)) if weights is None else weights
    columns = num_models + (lengths is not None)
    exact = _connected(a, b, outcomes, weights, num_models)
    if exact:
        found = _newton(a, b, outcomes, weights, lengths, columns, num_models, ridge=0.0)
        if found is not None:
            return _strengths(found, num_models, regularised=False)
    found = _newton(a, b, outcomes, weights, lengths, columns, num_models, ridge=RIDGE)
    if found is None:
        raise DataError("the strengths of these votes cannot be fitted: the fit does not settle")
    return _strengths(found, num_models, regularised=True)


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


def _strengths(found: Floats, num_models: int, *, regularised: bool) -> Strengths:
    values = found[:num_models] - found[:num_models].mean()
    effect = float(found[num_models]) if len(found) > num_models else 0.0
    return Strengths(values=values, length_effect=effect, regularised=regularised)


def _connected(a: Ints, b: Ints, outcomes: Floats, weights: Floats, num_models: int) -> bool:
    """Ford's condition: from every model a chain of (half) wins leads to every other one; only then a maximum exists."""
    beats = np.zeros((num_models, num_models), dtype=bool)
    beats[a[(weights > 0) & (outcomes > 0)], b[(weights > 0) & (outcomes > 0)]] = True
    beats[b[(weights > 0) & (outcomes < 1)], a[(weights > 0) & (outcomes < 1)]] = True
    for direction in (beats, beats.T):
        reached = np.zeros(num_models, dtype=bool)
        reached[0] = True
        for _ in range(num_models):
            reached |= direction[reached].any(axis=0)
        if not reached.all():
            return False
    return True


def _newton(
    a: Ints, b: Ints, outcomes: Floats, weights: Floats, lengths: Floats | None, columns: int, num_models: int, *,
    ridge: float,
) -> Floats | None:  # fmt: skip
    """Newton's method with halved steps on the log-likelihood; None when it does not settle."""
    design = np.zeros((len(a), columns))
    rows = np.arange(len(a))
    np.add.at(design, (rows, a), 1.0)
    np.add.at(design, (rows, b), -1.0)
    if lengths is not None:
        design[:, num_models] = lengths
    # Adding a constant to all strengths changes nothing: this term holds their sum at 0 without moving the maximum.
    gauge = np.zeros((columns, columns))
    gauge[:num_models, :num_models] = 1.0
    prior = ridge * np.eye(columns)
    if lengths is not None and not np.any(weights * np.abs(lengths)):
        prior[num_models, num_models] += 1.0  # equal lengths everywhere: the effect is unknown and stays 0
    values = np.zeros(columns)

    def loss(at: Floats) -> float:
        margins = design @ at
        nll = np.logaddexp(0.0, margins) - outcomes * margins
        return float(weights @ nll + 0.5 * at @ prior @ at)

    for _ in range(_STEPS):
        chances = sigmoid(design @ values)
        gradient = design.T @ (weights * (chances - outcomes)) + prior @ values
        hessian = design.T @ (design * (weights * chances * (1 - chances))[:, None]) + prior + gauge
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            return None
        size, before = 1.0, loss(values)
        while size > 1e-8 and loss(values - size * step) > before + 1e-12 * abs(before):
            size /= 2
        values = values - size * step
        if np.abs(step).max() < _TOLERANCE:
            return values
        if np.abs(values).max() > 50:  # odds beyond e^50: it runs away
            return None
    return None
