"""The evidence that a model needs to be promoted: which judge decides, and how sure it must be at the n-th attempt.

Looks are counted. Votes of people are bounded by a confidence sequence, which holds after every vote. The n-th model that is
compared with the one that serves may spend `ALPHA / (n (n + 1))`, which sums to `ALPHA` over any number of retrainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from chatwright.statistics.confidence_sequence import mean_bounds

ALPHA = 0.05
"""Chance that a model which is no better opens promotion, over all retrainings against one serving model."""
ENOUGH_PEOPLE = 20  # comparisons; with fewer an interval says little
ORDER = ("human", "ai", "held_out", "simulated", "learned")
"""Kinds of judges, the one that decides first. held_out: a reward model trained on rankings that the training reward never
saw. learned: the reward model that the model was trained on, an upper bound, which never decides."""

Code = Literal["", "never_compared", "upper_bound", "other_serves", "not_above"]


@dataclass(frozen=True, kw_only=True)
class Blocker:
    """Why a model may not be promoted without force."""

    code: Code
    """"": it may."""
    text: str


FREE = Blocker(code="", text="")


def alpha_of(attempt: int) -> float:
    """One-sided error that the `attempt`-th comparison with one serving model may spend; 0.025 for the first."""
    return ALPHA / (attempt * (attempt + 1))


def people_verdict(points: Sequence[float], attempt: int) -> dict[str, Any]:
    """The verdict of people: one value per question, 1 new, 0 old, 1/2 tie, in [low, high] whenever it is read.

    Each question counts once, by its first vote: further votes on the same pair are no independent evidence.
    """
    values = np.array(points, dtype=np.float64)
    low, high = mean_bounds(values, alpha=alpha_of(attempt))
    return {
        "judge": "people", "judge_kind": "human", "rate": float(values.mean()), "low": low, "high": high, "n": len(values),
        "questions": len(values), "ties": float((values == 0.5).mean()),
    }  # fmt: skip


def ordered(verdicts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts, the one that decides about promotion first."""

    def place(verdict: Mapping[str, Any]) -> tuple[bool, int]:
        return not may_decide(verdict), ORDER.index(verdict["judge_kind"])

    return [dict(one) for one in sorted(verdicts, key=place)]


def may_decide(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict may open promotion: not the training reward's, not a reward model's that failed its own report card,
    not that of too few people."""
    if verdict["judge_kind"] == "learned" or verdict.get("judge_gate"):
        return False
    return bool(verdict["judge_kind"] != "human" or verdict["questions"] >= ENOUGH_PEOPLE)


def shortfall(verdicts: Sequence[Mapping[str, Any]], attempt: int) -> Blocker:
    """The missing evidence; `FREE` when the deciding verdict is above one half at this attempt."""
    able = [one for one in verdicts if may_decide(one)]
    if not able:
        if any(one["judge_kind"] in ("learned", "held_out") for one in verdicts):
            said = "no judge may decide: a verdict of the reward model that it was trained on is an upper bound"
            return Blocker(code="upper_bound", text=f"{said}; let people, an AI judge or a second reward model compare")
        return Blocker(code="never_compared", text="it was never compared with the model that serves")
    verdict, alpha = ordered(able)[0], alpha_of(attempt)
    p = verdict.get("p", 0.0 if verdict["judge_kind"] == "human" else 1.0)  # the bounds of people have spent alpha already
    if verdict["low"] > 0.5 and p <= alpha:
        return FREE
    interval = f"{verdict['rate']:.3f} [{verdict['low']:.3f}, {verdict['high']:.3f}]"
    more = "" if verdict["judge_kind"] == "human" else f", p = {p:.4f}"
    text = (
        f"its win rate over the model that serves is {interval}{more}, not surely above 1/2 (judge: {verdict['judge']}; "
        f"attempt {attempt} against that model may err with a chance of {alpha:.4f})"
    )
    return Blocker(code="not_above", text=text)
