"""Shares of a model: the rows of its batch and the places of its queue that one owner may have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Rows and queue places that one owner may have at most."""

    rows: int
    """Answers written at the same time."""
    queue: int
    """Answers that may wait."""

    @property
    def reserved(self) -> int:
        """Rows that one owner leaves to others, the last of them to interactive requests; none in a small batch."""
        return self.rows // 8

    def rows_of_one(self, others_waiting: int) -> int:
        """Rows that one owner may take while so many others wait."""
        return max(1, self.rows - max(self.reserved, others_waiting))

    def rows_for(self, interactive: bool) -> int:
        """Rows that may be taken in all."""
        return self.rows if interactive or not self.reserved else self.rows - 1

    @property
    def queue_of_one(self) -> int:
        """Places in the queue that one owner may take."""
        return max(1, self.queue * 3 // 4)
