"""The gate before PPO: whether a reward model agrees with held-out rankings more often than the length of answers does.

Legend: G prompts that have a strict pair between different texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chatwright.statistics.bootstrap import DEFAULT_DRAWS, percentiles
from chatwright.statistics.sign_flips import sign_flip_p

Floats = npt.NDArray[np.float64]
MIN_PROMPTS = 10
"""Held-out prompts with a strict pair below which no verdict is given."""
_CHUNK = 200  # bootstrap draws at once
ALPHA = 0.025
"""Chance that the gate opens for a reward model that has learned nothing, at most."""


@dataclass(frozen=True, kw_only=True)
class AboveLength:
    """Accuracy minus length baseline, paired by prompt."""

    value: float
    low: float
    high: float
    """95 % percentile bootstrap over prompts; the baseline is drawn along, since it is an estimate from the same pairs."""
    p: float
    """One-sided p-value of a randomisation test: the share of sign flips, prompt by prompt, with a difference as large."""
    prompts: int
    constant: bool
    """No pair of answers has different scores."""

    def to_dict(self) -> dict[str, Any]:
        """For the report card."""
        names = ("value", "low", "high", "p", "prompts", "constant")
        return {name: getattr(self, name) for name in names}


def above_length(
    right: Floats, longer: Floats, pairs: Floats, *, constant: bool = False, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> AboveLength:
    """Compare accuracy and length baseline.

    Args:
        right: per prompt the pairs that the reward model gets right, equal scores one half [G].
        longer: per prompt the pairs that the longer answer wins, equal lengths one half [G].
        pairs: per prompt its strict pairs, at least one [G].
    """
    everything = np.stack([right, longer, pairs])
    random = np.random.default_rng(seed)
    drawn = []
    for start in range(0, draws, _CHUNK):
        picked_DG = random.integers(0, len(pairs), size=(min(_CHUNK, draws - start), len(pairs)))
        drawn.append(_difference(everything[:, picked_DG].sum(axis=-1)))
    low, high = percentiles(np.concatenate(drawn))
    return AboveLength(
        value=float(_difference(everything.sum(axis=-1))), low=low, high=high, prompts=len(pairs), constant=constant,
        p=float(sign_flip_p(advantage(right, longer, pairs), seed=seed)),
    )  # fmt: skip


def _difference(sums: Floats) -> Floats:
    """Accuracy minus baseline from sums (right, longer wins, pairs) [3, ...]."""
    share = sums[1] / sums[2]
    return np.asarray(sums[0] / sums[2] - np.maximum(share, 1.0 - share))


def advantage(right: Floats, longer: Floats, pairs: Floats) -> Floats:
    """Per prompt the pairs that the reward model gets right more than length does [..., G]. Length predicts by the direction
    that serves it better over all prompts, so a model without knowledge is at a disadvantage."""
    against = pairs - longer
    better = longer.sum(axis=-1, keepdims=True) >= against.sum(axis=-1, keepdims=True)
    return np.asarray(right - np.where(better, longer, against))


def gate(card: dict[str, Any]) -> str | None:
    """None when PPO may use this reward model, else the reason in plain words.

    Open when at least `MIN_PROMPTS` prompts count, the whole interval of accuracy minus baseline is above 0, and the
    randomisation test rejects at `ALPHA`. The percentile interval alone is too narrow for few or unequal prompts.
    """
    found = card["above_length"]
    if found["prompts"] < MIN_PROMPTS:
        return (
            f"too few to tell: {found['prompts']} held-out prompts have a strict pair between different answers, at least "
            f"{MIN_PROMPTS} are needed; rank answers to more prompts, or hold out a larger share."
        )
    if found["constant"]:
        return "the reward model gives all answers of a prompt the same score: it has learned nothing."
    interval = f"[{found['low']:+.2f}, {found['high']:+.2f}], p = {found['p']:.3f}"
    said = (
        f"accuracy {card['accuracy']['value']:.2f}, length alone {card['length_baseline']:.2f}, "
        f"difference {found['value']:+.2f} {interval}"
    )
    if found["value"] <= 0:
        return f"the reward model is no better than length: {said}."
    if found["low"] > 0 and found["p"] <= ALPHA:
        return None
    return f"the reward model may be no better than length: {said}; use more rankings."
