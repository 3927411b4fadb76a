"""Bounds of a mean that hold however often, and whenever, one looks at them.

Betting (Waudby-Smith and Ramdas 2010.09686, section 4; mixtures of fixed bets): the capital of a gambler who bets that the
mean is above m is a supermartingale when it is not. So it reaches 1 / alpha with a chance of at most alpha, at any number of
values (Ville's inequality).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError

Floats = npt.NDArray[np.float64]
_BETS = np.arange(1, 20) / 20.0  # shares of the largest bet that cannot go bankrupt, mixed with equal weight
_HALVINGS = 30


def mean_bounds(values: Floats, *, alpha: float) -> tuple[float, float]:
    """(lower, upper) bound of the mean of values in [0, 1], each missed with a chance of at most `alpha` over all looks.

    The values come one after another, each with the mean given those before; the order makes no difference to the bounds.
    Raises DataError for values outside of [0, 1].
    """
    if len(values) and not (float(values.min()) >= 0.0 and float(values.max()) <= 1.0):
        raise DataError("bounds of a mean need values from 0 to 1")
    distinct, counts = np.unique(values, return_counts=True)
    return _lower(distinct, counts, alpha), 1.0 - _lower(1.0 - distinct, counts, alpha)


def log_capital(values: Floats, counts: npt.NDArray[np.int64], mean: float) -> float:
    """Logarithm of the capital that bets against "the mean is at most `mean`" have made on values that came `counts` times;
    0 at the start. 0 < mean <= 1."""
    growth = np.log1p(_BETS[:, None] * (values[None, :] / mean - 1.0)) @ counts
    top = float(growth.max())
    return top + float(np.log(np.exp(growth - top).mean()))


def _lower(values: Floats, counts: npt.NDArray[np.int64], alpha: float) -> float:
    """The largest mean that the capital refutes; the capital falls as the mean grows."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if log_capital(values, counts, middle) >= -np.log(alpha) else (low, middle)
    return low
