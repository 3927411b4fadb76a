"""Learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from chatwright.config import check_least, check_share


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over a run."""

    kind: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """Shape after the warm-up; wsd: at the peak, then a linear fall over the last `decay_share` of the run (warm-up, stable,
    decay: arXiv 2404.06395)."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly to its peak."""
    warmup_start: float = 0.0
    """Share of the peak at the first warm-up step."""
    final_share: float = 0.1
    """Share of the peak that cosine, linear and wsd end at."""
    decay_share: float = 0.2
    """wsd: share of the run over which the rate falls."""

    def __post_init__(self) -> None:
        check_least(self, "schedule", 0, "warmup_steps", "warmup_start", "final_share")
        check_share(self, "schedule", "decay_share")


def rate_at(step: int, total_steps: int, peak: float, schedule: ScheduleConfig) -> float:
    """Learning rate of 0-based `step`: warm-up, then the chosen decay over the rest of the run."""
    if step < schedule.warmup_steps:
        done = step / schedule.warmup_steps
        return peak * (schedule.warmup_start + (1 - schedule.warmup_start) * done)
    if schedule.kind == "constant":
        return peak
    if schedule.kind == "wsd":
        left = (total_steps - step) / max(total_steps * schedule.decay_share, 1.0)
        return peak * (schedule.final_share + (1 - schedule.final_share) * min(left, 1.0))
    span = max(total_steps - schedule.warmup_steps, 1)
    done = min((step - schedule.warmup_steps) / span, 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * done)) if schedule.kind == "cosine" else 1 - done
    return peak * (schedule.final_share + (1 - schedule.final_share) * fall)
