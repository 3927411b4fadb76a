"""Krippendorff's alpha: agreement of any number of observers, with missing values, corrected for chance.

Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011). alpha = 1 - observed / expected disagreement,
from the matrix of coincidences [V, V]: how often two observers gave the values v and w to the same unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from chatwright.errors import ConfigError

Floats = npt.NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval", "ratio"]


def alpha(units: Iterable[Sequence[float | None]], metric: Metric) -> float:
    """Alpha of units that each hold the values of their observers (None: missing).

    1 is full agreement, 0 what chance gives. NaN when no unit has two values, or when only one value was ever given
    (nothing could have disagreed).
    """
    rows = [[value for value in unit if value is not None] for unit in units]
    values = sorted({value for row in rows for value in row})
    total = np.zeros((len(values), len(values)))
    for row in rows:
        total += coincidences(row, values)
    return alpha_of(total, values, metric)


def coincidences(observed: Sequence[float], values: Sequence[float]) -> Floats:
    """What one unit adds to the matrix [V, V]: its ordered pairs of values, divided by (number of values - 1)."""
    counts = np.array([sum(1 for value in observed if value == known) for known in values], dtype=np.float64)
    if len(observed) < 2:
        return np.zeros((len(values), len(values)))
    return np.asarray((np.outer(counts, counts) - np.diag(counts)) / (len(observed) - 1))


def alpha_of(total: Floats, values: Sequence[float], metric: Metric) -> float:
    """Alpha of a coincidence matrix [V, V] of `values` (ascending); see `alpha` for NaN."""
    marginals = total.sum(axis=1)
    num = float(marginals.sum())
    differences = _differences(marginals, np.asarray(values, dtype=np.float64), metric)
    expected = float((np.outer(marginals, marginals) * differences).sum())
    if num <= 1 or expected <= 0:
        return float("nan")
    return 1.0 - (num - 1.0) * float((total * differences).sum()) / expected


def _differences(marginals: Floats, values: Floats, metric: Metric) -> Floats:
    """Squared difference of every two values [V, V]."""
    if metric == "nominal":
        return np.asarray(1.0 - np.eye(len(values)))
    if metric == "ordinal":
        # Values between two ranks count with how often they were given, the two ends with half of that.
        places = np.cumsum(marginals) - marginals / 2
        return np.asarray((places[:, None] - places[None, :]) ** 2)
    if metric == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    if metric == "ratio":
        sums = values[:, None] + values[None, :]
        return np.asarray(((values[:, None] - values[None, :]) / np.where(sums == 0, 1.0, sums)) ** 2)
    raise ConfigError(f"metric: {metric!r} is not one of nominal, ordinal, interval, ratio")
