"""Progress in megabytes per second, with the time that is left."""

from __future__ import annotations

import time
from types import TracebackType

from chatwright.progress import ProgressBar


class Megabytes:
    """`with Megabytes("reading", total_bytes) as bar: bar.add(num_bytes)`. With a total of 0 (standard input) only what is
    done is shown."""

    def __init__(self, title: str, total: int, *, counts: str = "MB") -> None:
        self._bar = _Bar(title, total, unit=counts)

    def __enter__(self) -> Megabytes:
        self._bar.__enter__()
        return self

    def add(self, num_bytes: int) -> None:
        """Count bytes done."""
        self._bar.advance(num_bytes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)


class _Bar(ProgressBar):
    def text(self, now: float) -> str:
        elapsed = max(now - self._started, 1e-6)
        done = self.done / 1e6
        speed = f"{done / elapsed:,.1f} {self.unit}/s"
        if not self.total:
            return f"{done:,.1f} {self.unit}, {speed}"
        left = elapsed * (self.total - self.done) / self.done if self.done else 0.0
        ending = f"{_clock(left)} left" if self.done < self.total else f"{_clock(elapsed)} taken"
        return f"{done:,.1f}/{self.total / 1e6:,.1f} {self.unit}, {speed}, {ending}"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S" if seconds >= 3600 else "%M:%S", time.gmtime(max(seconds, 0)))
