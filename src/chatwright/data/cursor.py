"""The order of the data: a permutation per epoch from (seed, epoch), a position from the step.

Nothing else is state, so a resumed run sees exactly the rows it would have seen: save the step, not an iterator.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from random import Random

from chatwright.errors import DataError


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
