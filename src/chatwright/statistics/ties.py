"""Probabilities of win, tie and loss from a score difference, in numpy: what a report card measures a tie mode by.

Davidson (1970): softmax over [d/2, log nu, -d/2]. Rao and Kupper (1967): P(win) = sigmoid(d - eta),
P(tie) = (e^(2 eta) - 1) sigmoid(d - eta) sigmoid(-d - eta). The losses on tensors are in `objectives/ranking.py`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from chatwright.errors import ConfigError

Floats = npt.NDArray[np.float64]
TieMode = Literal["drop", "soft", "rao_kupper", "davidson"]
_LOWEST = 1e-300


def relation_probabilities(margins: Floats, tie_mode: str, tie_param: float) -> Floats:
    """P(win), P(tie), P(loss) of the first answer, rows of margins d = r_i - r_j [P] -> [P, 3].

    Args:
        tie_param: eta >= 0 for rao_kupper; log nu for davidson, and for drop and soft, which have no tie probability
            of their own: there a Davidson log nu fitted to the training ties is used for reporting (`fit_log_nu`).
    """
    if tie_mode == "rao_kupper":
        if tie_param < 0:
            raise ConfigError(f"tie_param: eta of rao_kupper must be at least 0, got {tie_param}.")
        win, loss = sigmoid(margins - tie_param), sigmoid(-margins - tie_param)
        return np.stack([win, np.expm1(2 * tie_param) * win * loss, loss], axis=1)
    if tie_mode not in ("davidson", "drop", "soft"):
        raise ConfigError(f"tie_mode: {tie_mode!r} is not one of drop, soft, rao_kupper, davidson.")
    logits = np.stack([margins / 2, np.full_like(margins, tie_param), -margins / 2], axis=1)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def relation_nll(margins: Floats, relations: npt.NDArray[np.int64], tie_mode: str, tie_param: float) -> Floats:
    """-log P(observed relation) per pair [P]; relations are +1 (first answer won), 0 (tie), -1."""
    probabilities = relation_probabilities(margins, tie_mode, tie_param)
    observed = probabilities[np.arange(len(relations)), 1 - relations]
    return np.asarray(-np.log(np.maximum(observed, _LOWEST)))


def fit_log_nu(margins: Floats, relations: npt.NDArray[np.int64]) -> float:
    """Maximum-likelihood log nu of Davidson's model at fixed margins, for modes that learn none.

    At the maximum the expected number of ties equals the observed one; half a tie and half a strict pair are added
    so that all-strict and all-tied sets stay finite. Without pairs log nu = log 2 (a tie rate of one half).
    """
    share = (float((relations == 0).sum()) + 0.5) / (len(relations) + 1.0)
    if not len(margins):
        return float(np.log(2.0))
    low, high = -60.0, 60.0 + float(np.abs(margins).max())
    for _ in range(70):  # halves 120 to below 1e-18
        middle = (low + high) / 2
        expected = float(relation_probabilities(margins, "davidson", middle)[:, 1].mean())
        low, high = (middle, high) if expected < share else (low, middle)
    return (low + high) / 2


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
