"""Loss spikes: an update whose loss lies far above the recent ones is not applied, and after several in a row the weights go
back to the last good ones. Everything is counted.

The idea is that of PaLM (arXiv 2204.02311, section 5.1): restart from before a spike and leave out the batches around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatwright.errors import ConfigError, TrainingStopped


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """When an update is left out."""

    factor: float = 6.0
    """Leave out an update whose loss lies this many standard deviations above the recent mean; 0: apply every one."""
    least_nats: float = 0.3
    """And at least this far above it, in nats per token."""
    memory_steps: int = 50
    """Steps over which mean and deviation are averaged; as many pass before anything is left out."""
    patience: int = 3
    """After this many in a row, go back to weights kept from before (every `memory_steps`, in memory and in checkpoints: 12
    bytes a weight); 0: never."""
    most: int = 100
    """Stop the run when more updates than this had to be left out."""

    def __post_init__(self) -> None:
        if self.factor < 0 or self.least_nats < 0 or self.patience < 0 or min(self.memory_steps, self.most) < 1:
            raise ConfigError("--spikes: factor, least-nats, patience must be 0 or more, memory-steps and most at least 1")


@dataclass(kw_only=True)
class SpikeGuard:
    """Running mean and variance of the loss of applied updates. Its whole state is in `state`."""

    config: SpikeConfig
    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    skipped: int = 0
    """Updates left out so far."""
    rolled_back: int = 0
    """Times the weights went back."""
    in_a_row: int = 0

    def limit(self) -> float:
        """The highest loss that is still applied, in nats per token."""
        if not self.config.factor or self.seen < self.config.memory_steps:
            return math.inf
        return self.mean + max(self.config.factor * math.sqrt(self.variance), self.config.least_nats)

    def accept(self, loss: float, *, where: str) -> bool:
        """Whether the update of this loss is to be applied. TrainingStopped when too many were not."""
        if math.isfinite(loss) and loss <= self.limit():
            weight = 1 / min(self.seen + 1, self.config.memory_steps)
            off = loss - self.mean
            self.mean += weight * off
            self.variance = (1 - weight) * (self.variance + weight * off * off)
            self.seen += 1
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        if self.skipped > self.config.most:
            raise TrainingStopped(
                f"{where}: {self.skipped} updates had to be left out because the loss jumped (now {loss:.3f}, usual "
                f"{self.mean:.3f}); try a lower --optim.lr, or allow more by --spikes.most"
            )
        return False

    @property
    def keep_now(self) -> bool:
        """Whether the weights as they are should be kept to go back to."""
        due = self.seen % self.config.memory_steps == 0 and not self.in_a_row
        return bool(self.config.factor and self.config.patience) and due

    @property
    def must_go_back(self) -> bool:
        """Whether as many updates in a row were left out as `patience` allows."""
        return bool(self.config.patience) and self.in_a_row >= self.config.patience

    def went_back(self) -> None:
        """Count it and start anew: what the loss is at the old weights has to be learned again."""
        self.rolled_back += 1
        self.in_a_row = 0

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {name: value for name, value in vars(self).items() if name != "config"}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        for name, value in state.items():
            setattr(self, name, value)
