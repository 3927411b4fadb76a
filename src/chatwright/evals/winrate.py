"""How often one model's answers are preferred to another's: plain, and with the effect of length taken out.

Legend: Q questions, S answers per question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.statistics.bootstrap import DEFAULT_DRAWS, ratio_interval, statistic_interval
from chatwright.statistics.sign_flips import sign_flip_p

Floats = npt.NDArray[np.float64]
_SMALL_P = 0.01
_TIE = 1e-9  # rubric totals are sums of floats


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """A win rate with its bootstrap interval by question."""

    rate: float
    """Share of comparisons won; a tie counts one half."""
    low: float
    high: float
    n: int
    """Number of comparisons."""
    questions: int
    ties: float
    """Share of comparisons that were ties."""
    p: float | None = None
    """One-sided p-value of "A is not preferred": sign flips by question, exact where neither model is better."""

    def to_dict(self) -> dict[str, float | int]:
        """For JSON files."""
        return {
            "rate": self.rate,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "questions": self.questions,
            "ties": self.ties,
            **({} if self.p is None else {"p": self.p}),
        }


def win_rate(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], *, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> WinRate:
    """Win rate of model A over model B; a tie counts one half; whole questions are bootstrapped.

    Every answer of A to a question is compared with every answer of B to it: the samples of a question are
    exchangeable, so pairing them off would only add noise.

    Args:
        a, b: scores [Q][S]; both list the same questions in the same order; S may differ.
    """
    outcomes = [_outcomes(x, y) for x, y in _paired(a, b)]
    sums = np.array([outcome.sum() for outcome in outcomes])
    counts = np.array([float(outcome.size) for outcome in outcomes])
    interval = ratio_interval(sums, counts, seed=seed, draws=draws)
    ties = sum(float((outcome == 0.5).sum()) for outcome in outcomes)
    num = int(counts.sum())
    return WinRate(
        rate=interval.value, low=interval.low, high=interval.high, n=num, questions=len(outcomes), ties=ties / num,
        p=preference_p(sums - 0.5 * counts, seed=seed),
    )  # fmt: skip


def preference_p(differences: Floats, *, seed: int = 0) -> float:
    """p-value of points above one half per question [Q]; small ones are computed to five digits."""
    p = float(sign_flip_p(differences, seed=seed))
    return p if p > _SMALL_P else float(sign_flip_p(differences, seed=seed + 1, draws=99_999))


def length_controlled_win_rate(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    lengths_a: Sequence[Sequence[float]],
    lengths_b: Sequence[Sequence[float]],
    *,
    seed: int = 0,
    draws: int = 200,
) -> WinRate:
    """What the win rate would be at equal length (Dubois et al. 2404.04475, alpaca_eval's length-controlled rate).

    Logistic regression of the outcome on theta + phi * tanh((length_a - length_b) / std of the differences); the
    rate is sigmoid(theta), the prediction at no difference. (alpaca_eval also has a term for the instruction's
    difficulty, fitted over a leaderboard of models; between two models it is the bootstrap that carries it.)
    Ties enter with target one half. A ridge of 1e-2 on both terms keeps the fit finite when one side always wins.

    Args:
        a, b: scores [Q][S]. lengths_a, lengths_b: words of the same answers [Q][S].
    """
    plain = win_rate(a, b, seed=seed, draws=2)
    outcomes = [_outcomes(x, y).ravel() for x, y in _paired(a, b)]
    gaps = [np.subtract.outer(x, y).ravel() for x, y in _paired(lengths_a, lengths_b)]
    if [len(outcome) for outcome in outcomes] != [len(gap) for gap in gaps]:
        raise DataError("length_controlled_win_rate: the lengths do not have the shape of the scores.")
    spread = float(np.concatenate(gaps).std()) or 1.0
    features = [np.tanh(gap / spread) for gap in gaps]

    def rate(picked: npt.NDArray[np.int64]) -> float:
        target = np.concatenate([outcomes[i] for i in picked])
        theta, _ = _fit_logistic(np.concatenate([features[i] for i in picked]), target)
        return float(1 / (1 + np.exp(-theta)))

    interval = statistic_interval(len(outcomes), rate, seed=seed, draws=draws)
    return WinRate(
        rate=interval.value,
        low=interval.low,
        high=interval.high,
        n=plain.n,
        questions=plain.questions,
        ties=plain.ties,
    )


def _fit_logistic(feature: Floats, target: Floats, ridge: float = 1e-2) -> tuple[float, float]:
    """Newton steps for target ~ sigmoid(theta + phi * feature) with targets in [0, 1]; (theta, phi)."""
    design = np.stack([np.ones_like(feature), feature], axis=1)
    params = np.zeros(2)
    for _ in range(50):
        mean = 1 / (1 + np.exp(-design @ params))
        gradient = design.T @ (mean - target) + ridge * params
        curvature = design.T @ (design * (mean * (1 - mean))[:, None]) + ridge * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        params = params - np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return float(params[0]), float(params[1])


def _outcomes(a: Floats, b: Floats) -> Floats:
    """1 where A's answer is better, 0 where B's is, 0.5 for ties [S_a, S_b]."""
    gap = np.subtract.outer(a, b)
    return np.where(np.abs(gap) <= _TIE, 0.5, (gap > 0).astype(np.float64))


def _paired(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> list[tuple[Floats, Floats]]:
    if len(a) != len(b) or not a:
        raise DataError(f"a win rate needs the same questions of both models, got {len(a)} and {len(b)}.")
    pairs = [(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)) for x, y in zip(a, b, strict=True)]
    for question, (x, y) in enumerate(pairs):
        if not x.size or not y.size or not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise DataError(f"question {question}: every question needs finite scores of both models.")
    return pairs
