"""The order of the data: a permutation per epoch from (seed, epoch), a position from the step.

Nothing else is state, so a resumed run sees exactly the rows it would have seen: save the step, not an iterator.
`Order` is an endless sequence; `Batches` are the steps of a training run.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from random import Random

from chatwright.errors import ConfigError, DataError


class Order:
    """Endless passes over `num_items` items, each pass in its own order.

    The whole state is the step: `batch(step, batch_size)` depends on nothing else.
    """

    def __init__(self, num_items: int, seed: int) -> None:
        if num_items < 1:
            raise DataError("there are no rows to go through; give at least one")
        self.num_items = num_items
        self.seed = seed
        self._permutation = lru_cache(maxsize=2)(self._make_permutation)

    def permutation(self, epoch: int) -> tuple[int, ...]:
        """The order of pass `epoch` (0, 1, ...)."""
        return self._permutation(epoch)

    def batch(self, step: int, batch_size: int) -> list[int]:
        """Indices of step `step` (0, 1, ...). A batch at the end of a pass goes on into the next one."""
        start = step * batch_size
        return [self.at(position) for position in range(start, start + batch_size)]

    def at(self, position: int) -> int:
        """Index of the item at a position counted from the start of the first pass."""
        epoch, offset = divmod(position, self.num_items)
        return self.permutation(epoch)[offset]

    def _make_permutation(self, epoch: int) -> tuple[int, ...]:
        digest = hashlib.sha256(f"order:{self.seed}:{epoch}".encode()).digest()
        items = list(range(self.num_items))
        Random(int.from_bytes(digest, "big")).shuffle(items)
        return tuple(items)


class Batches:
    """The steps of a training run over `num_items` rows.

    `steps` 0: `epochs` passes. Every pass takes each row exactly once; its last batch is smaller where `batch_size` does not
    divide the number of rows. `steps` above 0: so many full batches of the endless order, across the ends of passes.
    """

    def __init__(self, num_items: int, batch_size: int, seed: int, *, epochs: int, steps: int = 0) -> None:
        """Raises ConfigError for a length or a batch below 1, DataError without rows."""
        if batch_size < 1:
            raise ConfigError(f"--train.batch-size {batch_size}: must be at least 1")
        if steps < 0 or (not steps and epochs < 1):
            raise ConfigError(f"--train.epochs {epochs}, --train.steps {steps}: at least one pass or one step is needed")
        self.order = Order(num_items, seed)
        self.batch_size = batch_size
        self.total = steps or epochs * math.ceil(num_items / batch_size)
        """Optimiser steps of the whole run."""
        self._whole_passes = not steps

    def rows_before(self, step: int) -> int:
        """Rows that the steps before 0-based `step` take."""
        if not self._whole_passes:
            return step * self.batch_size
        epoch, place = divmod(step, math.ceil(self.order.num_items / self.batch_size))
        return epoch * self.order.num_items + place * self.batch_size

    def at(self, step: int) -> list[int]:
        """Indices of the rows of 0-based `step`."""
        return [self.order.at(position) for position in range(self.rows_before(step), self.rows_before(step + 1))]

    def ends_epoch(self, step: int) -> bool:
        """True when 0-based `step` is the last of a pass over the rows, or of the run."""
        num = self.order.num_items
        return step + 1 == self.total or self.rows_before(step + 1) // num > self.rows_before(step) // num
