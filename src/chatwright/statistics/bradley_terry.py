"""Strengths from comparisons of pairs: Bradley-Terry with ties as half wins, by Newton's method.

P(a beats b) = sigmoid(s_a - s_b); a tie counts half for either side, as in FastChat's published ratings (a logistic
regression without intercept on all votes). With length control the model also has a term g * (relative length difference),
so that strengths are compared at equal length (style control of the same project).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.statistics.ties import sigmoid

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RIDGE = 0.1  # weight of the prior where the votes alone give no finite strengths
_STEPS, _TOLERANCE = 200, 1e-10


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Maximum-likelihood strengths."""

    values: Floats
    """Per model [M], in nats of log odds; their mean is 0."""
    length_effect: float = 0.0
    """Log odds won by an answer that is endlessly longer; 0 without length control."""
    regularised: bool = False
    """The votes alone give no finite strengths (somebody won or lost everything), so a weak normal prior was added."""


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
