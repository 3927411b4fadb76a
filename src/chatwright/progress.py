"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere, with tokens/s and the time left."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_PLAIN_EVERY_S = 10.0


def console() -> Console:
    """Where people read: stderr, without colour when NO_COLOR is set or it is not a terminal."""
    # No markup: text of users goes through here. No wrapping when piped: a message stays one line.
    width = None if sys.stderr.isatty() else 10_000
    return Console(stderr=True, highlight=False, markup=False, width=width)


def _clock(seconds: float) -> str:
    whole = int(max(seconds, 0))
    return f"{whole // 60}:{whole % 60:02d}"


class ProgressBar:
    """`with ProgressBar("sft", total) as bar: bar.advance(1, tokens=512, note="loss 1.23")`."""

    def __init__(self, title: str, total: int | None, *, done: int = 0, unit: str = "step") -> None:
        """`total`: None where it is not known (yet)."""
        self.title, self.total, self.unit = title, total, unit
        self.left_s: float | None = None
        """Seconds left, where the caller knows better than the pace so far."""
        self.done = self._first = done
        self.tokens = 0
        self.note = ""
        self._started = self._printed = time.monotonic()
        self._rich: Progress | None = None
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self._rich = Progress(*columns, console=console(), transient=False)
            self._task = self._rich.add_task(title, total=total, completed=done, text="")

    def __enter__(self) -> ProgressBar:
        if self._rich is not None:
            self._rich.start()
        return self

    def advance(self, steps: int = 1, *, tokens: int = 0, note: str = "") -> None:
        """Count work done and show it."""
        self.done += steps
        self.tokens += tokens
        self.note = note or self.note
        now = time.monotonic()
        if self._rich is not None:
            self._rich.update(self._task, completed=self.done, total=self.total, text=self.text(now))
        elif now - self._printed >= _PLAIN_EVERY_S or self._complete:
            self._printed = now
            print(f"{self.title}: {self.text(now)}", file=sys.stderr, flush=True)

    @property
    def _complete(self) -> bool:
        return self.total is not None and self.done >= self.total

    def text(self, now: float) -> str:
        """`12/40 steps, 512 tokens/s, 0:31 left, loss 1.23`; no time left before the first step has ended."""
        elapsed = max(now - self._started, 1e-6)
        fresh = self.done - self._first
        parts = [f"{self.done}/{self.total} {self.unit}s" if self.total is not None else f"{self.done} {self.unit}s"]
        if self.tokens:
            parts.append(f"{self.tokens / elapsed:,.0f} tokens/s")
        if self._complete:
            parts.append(f"{_clock(elapsed)} taken")
        elif self.left_s is not None:
            parts.append(f"{_clock(self.left_s)} left")
        elif self.total is not None and fresh:
            parts.append(f"{_clock(elapsed / fresh * (self.total - self.done))} left")
        return ", ".join(parts + ([self.note] if self.note else []))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()
