"""Logistic regression on sparse rows, by L-BFGS in plain numpy; class-ratio scaling; calibration; macro-F1.

Scaling after Wang and Manning (2012): an n-gram counts by the log ratio of its share in the two classes, here plus a
constant and times its inverse document frequency, which measured better (benchmarks/moderation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chatwright.serve.moderation.classifier import View, scaled, sigmoid
from chatwright.serve.moderation.features import Doubles, Floats, Ints, NGrams, Rows

Objective = Callable[[Doubles], tuple[float, Doubles]]


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a linear model is trained."""

    grams: NGrams
    """Its features."""
    floor: float = 0.3
    """Added to every log ratio; the higher, the less the scaling trusts the class ratios."""
    idf: bool = True
    """Whether scales are multiplied by the inverse document frequency too."""
    l2: float = 0.05
    """Weight of the squared weights."""
    min_texts: int = 2
    """Buckets found in fewer texts are left out."""


def fit_view(rows: Rows, target: Doubles, cfg: ViewConfig, weight: Doubles | None = None) -> View:
    """Train on raw counts [N] with targets in [0, 1] [N]; `weight` counts a text more or less often."""
    scale = scales(rows, target, cfg)
    inputs = scaled(rows, scale)
    kept = np.flatnonzero(scale)
    place = np.zeros(len(scale), np.int64)
    place[kept] = np.arange(len(kept))
    used = scale[inputs.columns] > 0
    starts = np.concatenate([[0], np.cumsum(used)])[inputs.starts].astype(np.int64)
    dense = Rows(starts, place[inputs.columns[used]], inputs.values[used])
    fitted = _logistic(dense, target, len(kept), cfg.l2, np.ones(len(target)) if weight is None else weight)
    weights = np.zeros(len(scale), np.float32)
    weights[kept] = fitted[:-1]
    return View(grams=cfg.grams, scale=scale, weights=weights, bias=float(fitted[-1]))


def scales(rows: Rows, target: Doubles, cfg: ViewConfig) -> Floats:
    """Factor of each bucket [F]; 0 for those in too few texts."""
    size, row_of = 2**cfg.grams.bits, rows.row_of
    texts = np.bincount(rows.columns, minlength=size).astype(np.float64)
    positive = np.bincount(rows.columns, weights=target[row_of], minlength=size)
    negative = texts - positive
    ratio = np.log((positive + 1) / (positive.sum() + 1)) - np.log((negative + 1) / (negative.sum() + 1))
    scale = np.abs(ratio) + cfg.floor
    if cfg.idf:
        scale *= np.log((1 + len(rows)) / (1 + texts)) + 1
    return np.where(texts >= cfg.min_texts, scale, 0.0).astype(np.float32)


def _logistic(rows: Rows, target: Doubles, size: int, l2: float, weight: Doubles) -> Doubles:
    """Weights and, last, the bias [size + 1] that minimise the summed cross entropy + l2 / 2 * |weights|^2."""
    row_of, values = rows.row_of, rows.values

    def objective(params: Doubles) -> tuple[float, Doubles]:
        logits = rows.dot(params[:-1]) + params[-1]
        error = weight * (sigmoid(logits) - target)
        loss = float((weight * (np.logaddexp(0.0, logits) - target * logits)).sum())
        loss += 0.5 * l2 * float(params[:-1] @ params[:-1])
        gradient = np.bincount(rows.columns, weights=values * error[row_of], minlength=size) + l2 * params[:-1]
        return loss, np.append(gradient, error.sum())

    return minimise(objective, np.zeros(size + 1))


def minimise(objective: Objective, start: Doubles, *, steps: int = 60, memory: int = 8, tolerance: float = 1e-5) -> Doubles:
    """L-BFGS with a backtracking line search (Nocedal and Wright, algorithms 7.4 and 3.1) for a smooth convex function."""
    params, pairs = start, list[tuple[Doubles, Doubles]]()
    value, gradient = objective(params)
    for _ in range(steps):
        direction = -_two_loops(gradient, pairs)
        slope, step = float(gradient @ direction), 1.0
        while True:
            new_value, new_gradient = objective(params + step * direction)
            if new_value <= value + 1e-4 * step * slope or step < 1e-8:
                break
            step /= 2
        moved, change = step * direction, new_gradient - gradient
        if float(moved @ change) > 1e-12:
            pairs = [*pairs[-memory + 1 :], (moved, change)]
        gain, params = value - new_value, params + moved
        value, gradient = new_value, new_gradient
        if gain <= tolerance * abs(value):
            break
    return params


def _two_loops(gradient: Doubles, pairs: list[tuple[Doubles, Doubles]]) -> Doubles:
    result, factors = gradient.copy(), []
    for moved, change in reversed(pairs):
        factor = float(moved @ result) / float(moved @ change)
        factors.append(factor)
        result -= factor * change
    if pairs:
        moved, change = pairs[-1]
        result *= float(moved @ change) / float(change @ change)
    else:
        result /= max(1.0, float(np.linalg.norm(gradient)))
    for (moved, change), factor in zip(pairs, reversed(factors), strict=True):
        result += moved * (factor - float(change @ result) / float(moved @ change))
    return result


def calibrate(logits: Doubles, target: Doubles) -> tuple[float, float]:
    """(slope, offset) of Platt's scaling, with his smoothed targets, so that separable data does not blow up."""
    positive = float(target.sum())
    high, low = (positive + 1) / (positive + 2), 1 / (len(target) - positive + 2)
    smoothed = np.where(target > 0.5, high, low)

    def objective(params: Doubles) -> tuple[float, Doubles]:
        scaled_logits = params[0] * logits + params[1]
        error = sigmoid(scaled_logits) - smoothed
        loss = float((np.logaddexp(0.0, scaled_logits) - smoothed * scaled_logits).sum())
        return loss, np.array([float(error @ logits), float(error.sum())])

    slope, offset = minimise(objective, np.array([1.0, 0.0]), steps=200, tolerance=1e-9)
    return float(slope), float(offset)


def macro_f1(target: Doubles, flagged: Doubles) -> float:
    """Mean of the F1 of both classes; a class that is neither there nor predicted counts 0."""
    figures = []
    for kind in (0.0, 1.0):
        hits = float(((flagged == kind) & (target == kind)).sum())
        total = float((flagged == kind).sum() + (target == kind).sum())
        figures.append(2 * hits / total if total else 0.0)
    return float(np.mean(figures))


def calibration_error(probability: Doubles, target: Doubles, bins: int = 15) -> float:
    """Expected calibration error: mean |probability - frequency| over equal-width bins, weighted by their texts."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=probability, minlength=bins) - np.bincount(place, weights=target, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(target), 1))


def best_threshold(probability: Doubles, target: Doubles) -> float:
    """The probability in 0.05 .. 0.95 with the highest macro-F1."""
    choices = np.round(np.arange(0.05, 0.951, 0.01), 2)
    return float(max(choices, key=lambda choice: macro_f1(target, (probability >= choice).astype(np.float64))))


def folds(num: int, number: int, seed: int) -> Ints:
    """Fold of each text [num]."""
    return np.random.default_rng(seed).permutation(num) % number
