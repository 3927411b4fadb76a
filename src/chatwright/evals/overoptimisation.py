"""Over-optimisation: gold reward against the distance from the start, d = sqrt(KL) (Gao et al. 2210.10760).

Best-of-n: R(d) = d (alpha - beta d). RL: R(d) = d (alpha - beta log d). R is the gain in gold reward over the start
(KL = 0). Both are linear in (alpha, beta): least squares, intervals by bootstrap over prompts.
Legend: M points of the sweep, G prompts, N samples per prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.statistics.bootstrap import DEFAULT_DRAWS, LEVEL, Interval, percentiles

Floats = npt.NDArray[np.float64]
Kind = Literal["bon", "rl"]


def kl_best_of_n(n: int) -> float:
    """KL in nats of best-of-n from one sample: log n - (n - 1) / n (an upper bound, exact without ties)."""
    return math.log(n) - (n - 1) / n


def best_of_n(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """Expected gold of the answer with the highest proxy among n of N samples, over all C(N, n) choices.

    Unbiased and without resampling: sorted by proxy, sample i (0 worst) is the best of C(i, n-1) of the choices.
    Samples of equal proxy share the gold of their group, as a fair pick among them would.

    Args:
        proxy, gold: scores of the same N samples.
    Raises:
        DataError: unless 1 <= n <= N.
    """
    num = len(proxy)
    if len(gold) != num or not 1 <= n <= num:
        raise DataError(f"best_of_n needs 1 <= n <= {num} samples with both scores, got n = {n}, {len(gold)} gold.")
    proxies, golds = np.asarray(proxy, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    order = np.argsort(proxies, kind="stable")
    _, group = np.unique(proxies[order], return_inverse=True)
    shared = (np.bincount(group, golds[order]) / np.bincount(group))[group]
    weights = np.array([math.comb(i, n - 1) / math.comb(num, n) for i in range(num)])
    return float(weights @ shared)


def best_of_n_sweep(
    proxy: Sequence[Sequence[float]], gold: Sequence[Sequence[float]], ns: Sequence[int]
) -> tuple[list[float], list[list[float]]]:
    """KL per n [M] and expected gold per n and prompt [M][G], from samples [G][N]."""
    golds = [[best_of_n(p, g, n) for p, g in zip(proxy, gold, strict=True)] for n in ns]
    return [kl_best_of_n(n) for n in ns], golds


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted over-optimisation curve."""

    kind: Kind
    alpha: Interval
    beta: Interval
    peak_d: Interval | None
    """d* where the fitted gain is highest; None when the curve has no such point (only rising, or only falling), or when too
    few bootstrap draws have one for its interval (`peak_share` below 0.95)."""
    peak_share: float
    """Share of the bootstrap draws whose curve has such a point."""
    measured_kl: float
    """Largest KL of the sweep, in nats."""
    recommended_kl: float
    """KL in nats at which to stop: d*^2, but never beyond what was measured; 0 when no measured point gains anything."""
    rmse: float
    """Root mean squared residual of the fitted gains."""

    def gain(self, d: float) -> float:
        """Fitted gain in gold reward at d = sqrt(KL)."""
        return d * (self.alpha.value - self.beta.value * _shape(np.array([d]), self.kind)[0]) if d > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON files."""
        row: dict[str, Any] = {"kind": self.kind, "measured_kl": self.measured_kl}
        row |= {"recommended_kl": self.recommended_kl, "rmse": self.rmse, "peak_share": self.peak_share}
        for name in ("alpha", "beta", "peak_d"):
            found: Interval | None = getattr(self, name)
            row[name] = found and {"value": found.value, "low": found.low, "high": found.high}
        return row


def fit_curve(
    kind: Kind,
    kl_nats: Sequence[float],
    gold: Sequence[Sequence[float]],
    start: Sequence[float],
    *,
    seed: int = 0,
    draws: int = DEFAULT_DRAWS,
) -> Fit:
    """Fit alpha and beta to a sweep.

    Args:
        kl_nats: KL to the start per point [M]; points at 0 carry no information and are left out.
        gold: gold reward per point and prompt [M][G].
        start: gold reward of the start per prompt [G].
    Raises:
        DataError: with fewer than two distinct positive KLs.
    """
    kl = np.asarray(kl_nats, dtype=np.float64)
    gains = np.asarray(gold, dtype=np.float64) - np.asarray(start, dtype=np.float64)[None, :]
    moved = kl > 0
    if len(np.unique(kl[moved])) < 2:
        raise DataError("an over-optimisation curve needs two or more points with different KL above 0.")
    d = np.sqrt(kl[moved])
    design = np.stack([d, -d * _shape(d, kind)], axis=1)
    solve = np.linalg.pinv(design)  # [2, M']
    mean_gain = gains[moved].mean(axis=1)
    params = solve @ mean_gain
    picked = np.random.default_rng(seed).integers(0, gains.shape[1], size=(draws, gains.shape[1]))
    drawn = np.stack([solve @ gains[moved][:, row].mean(axis=1) for row in picked])  # [draws, 2]
    peak = _peak(params, kind)
    peaks = np.array([found for found in (_peak(row, kind) for row in drawn) if found is not None])
    peak_share = len(peaks) / draws
    reach = float(kl.max())
    stop = reach if peak is None else min(reach, peak**2)
    fitted = design @ params
    if fitted.max() <= 0:
        stop = 0.0
    return Fit(
        kind=kind,
        alpha=_interval(params[0], drawn[:, 0]),
        beta=_interval(params[1], drawn[:, 1]),
        peak_d=None if peak is None or peak_share < LEVEL else _interval(peak, peaks),
        peak_share=peak_share,
        measured_kl=reach,
        recommended_kl=stop,
        rmse=float(np.sqrt(np.mean((fitted - mean_gain) ** 2))),
    )


def _shape(d: Floats, kind: Kind) -> Floats:
    return d if kind == "bon" else np.log(d)


def _peak(params: Floats, kind: Kind) -> float | None:
    """Where the derivative is zero: alpha / (2 beta) for bon, exp(alpha / beta - 1) for rl."""
    alpha, beta = float(params[0]), float(params[1])
    if beta <= 0 or (kind == "bon" and alpha <= 0):
        return None
    return alpha / (2 * beta) if kind == "bon" else math.exp(min(alpha / beta - 1, 50.0))


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = percentiles(drawn) if len(drawn) else (value, value)
    return Interval(value=float(value), low=low, high=high)
