"""Chat templates of unknown origin, rendered in a limited process: `render` for one template and many conversations.

One worker process serves all templates of this process. It is started on first use and killed when a request takes too
long or too much memory; the next request starts another.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chatwright.errors import TemplateError

TIMEOUT_S = 10.0
MEMORY_BYTES = 2**30
_WORKER = Path(__file__).with_name("jinja_worker.py")


@dataclass(frozen=True)
class RenderResult:
    """Text of a template, or the reason why there is none."""

    text: str = ""
    error: str = ""
    """Empty when there is a text."""
    refused: bool = False
    """The template itself refused the conversation (`raise_exception`); otherwise an error is a fault or a limit."""
    clock: bool = False
    """The template asked for today's date."""


class _Worker:
    """The process, and which templates it knows."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[str] = set()

    def ask(self, request: dict[str, Any], source: str, timeout_s: float) -> dict[str, Any]:
        """The worker's answer. TemplateError: it took too long, or died (of the memory limit)."""
        with self.lock:
            process = self._running()
            if request["key"] not in self._known:
                request = request | {"source": source}
            timer = threading.Timer(timeout_s, process.kill)
            timer.start()
            try:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            finally:
                timer.cancel()
            if not line:
                self.stop()
                raise TemplateError(
                    f"the chat template took more than {timeout_s:g} s or {MEMORY_BYTES // 2**20} MiB, so it is not used"
                )
            self._known.add(request["key"])
            answer: dict[str, Any] = json.loads(line)
            return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER), str(MEMORY_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def forget(self) -> None:
        """In a forked child: leave the parent's process alone."""
        self.lock, self._process, self._known = threading.Lock(), None, set()

    def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        self._known.clear()
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # unsent bytes of a request to a killed worker
                        pipe.close()


_WORKERS = _Worker()
atexit.register(_WORKERS.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WORKERS.forget)


def render_all(
    source: str, date: str, jobs: Sequence[Mapping[str, Any]], *, timeout_s: float = TIMEOUT_S
) -> list[RenderResult]:
    """Render `source` with each job's variables; `date` (ISO) is what `strftime_now` shows.

    Raises TemplateError when time (for all jobs together) or memory ran out.
    """
    key = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()
    request = {"key": key, "date": date, "jobs": list(jobs)}
    return [_result(row) for row in _WORKERS.ask(request, source, timeout_s)["results"]]


def _result(row: Mapping[str, Any]) -> RenderResult:
    if "error" in row:
        kind: Literal["refused", "template"] = row["kind"]
        return RenderResult(error=row["error"], refused=kind == "refused")
    return RenderResult(text=row["text"], clock=row["clock"])
