"""Worker processes with bounded work in flight: results come in the order of what was given, memory stays flat."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, Literal

from chatwright.data.corpus_build.work import Task, Worker
from chatwright.errors import DataError

Pass = Literal["clean", "tokenise"]
# Waiting for each worker: enough that none is idle while the others' results are written.
_AHEAD = 3


class Pool:
    """Runs the passes of a `Worker`, in this process or in several."""

    def __init__(self, task: Task, executor: ProcessPoolExecutor | None, num_workers: int) -> None:
        self._worker = Worker(task) if executor is None else None
        self._executor, self._ahead = executor, _AHEAD * num_workers

    def run(self, what: Pass, items: Iterable[Any]) -> Iterator[Any]:
        """The results of a pass over all items, in their order."""
        if self._worker is not None:
            yield from map(getattr(self._worker, what), items)
            return
        assert self._executor is not None
        waiting: deque[Future[Any]] = deque()
        try:
            for item in items:
                waiting.append(self._executor.submit(_run, what, item))
                if len(waiting) >= self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process ended without a word (out of memory, or killed); build again with fewer --workers: "
                "what is done is kept"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def pool(task: Task, num_workers: int) -> Iterator[Pool]:
    """A pool of `num_workers` processes; 1 works in this process."""
    if num_workers == 1:
        yield Pool(task, None, 1)
        return
    # Spawned, not forked: a fork copies locks that threads of libraries hold.
    executor = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_start, initargs=(task,))
    try:
        yield Pool(task, executor, num_workers)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_worker: Worker | None = None


def _start(task: Task) -> None:
    """In a new worker process: its state, and an end when the parent ends (also when that is killed)."""
    global _worker
    _worker = Worker(task)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _run(what: Pass, item: Any) -> Any:
    assert _worker is not None
    return getattr(_worker, what)(item)
