"""Compiles constraints for a server: on trial in processes that can be killed, then here; owners take turns by use.

At most two constraints are compiled at a time, and at most one of an owner. The owner who has used the least CPU time
for this comes first, so somebody with many hostile schemas delays nobody by more than the one that is running.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field

from chatwright.errors import ChatwrightError, ConfigError
from chatwright.generation.api import Constraint
from chatwright.generation.constrain import ConstraintCompiler, Matcher
from chatwright.generation.grammar_probe import NICE, Probe
from chatwright.serve.engine import EngineBusy, EngineGone

NUM_WORKERS = 2
MAX_WAITING = 32  # constraints of one owner
_MAX_OWNERS = 1000  # whose use is remembered
_TRUSTED = frozenset(("script", "json_object"))  # made by this program, so they need no trial


@dataclass(eq=False)
class _Job:
    """A constraint to compile, and the requests that wait for it."""

    constraint: Constraint
    waiting: list[tuple[str, Future[Matcher]]] = field(default_factory=list)
    """(owner, where the matcher goes)."""
    running: bool = False

    @property
    def owners(self) -> set[str]:
        """Owners of requests that still wait."""
        return {owner for owner, future in self.waiting if not future.cancelled()}

    def take(self) -> list[tuple[str, Future[Matcher]]]:
        """Empty `waiting`."""
        waiting, self.waiting = self.waiting, []
        return waiting


class ConstraintPool:
    """Matchers for the requests of one engine. `close` it with the engine."""

    def __init__(self, compiler: ConstraintCompiler) -> None:
        self._compiler = compiler
        self._changed = threading.Condition()
        self._jobs: OrderedDict[Constraint, _Job] = OrderedDict()
        self._used_s: OrderedDict[str, float] = OrderedDict()
        """CPU time per owner; as good as wall time of the one thread that works for them."""
        self._probes: list[Probe] = []
        self._idle = 0
        self._closed = False

    async def matcher(self, owner: str, constraint: Constraint) -> Matcher:
        """A matcher at the beginning of an answer. Raises ConfigError (refused), EngineBusy, EngineGone."""
        if (known := self._compiler.known(constraint)) is not None:
            return known
        return await asyncio.wrap_future(self._enqueue(owner, constraint))

    def close(self) -> None:
        """End the processes; requests that wait get EngineGone."""
        with self._changed:
            self._closed = True
            waiting = [one for job in self._jobs.values() for one in job.take()]
            self._changed.notify_all()
        for probe in self._probes:
            probe.close()
        _settle(waiting, EngineGone("the model is being replaced or shut down"))

    def _enqueue(self, owner: str, constraint: Constraint) -> Future[Matcher]:
        future: Future[Matcher] = Future()
        with self._changed:
            if self._closed:
                raise EngineGone("the model is being replaced or shut down")
            if sum(owner in job.owners for job in self._jobs.values()) >= MAX_WAITING:
                raise EngineBusy(5.0)
            self._jobs.setdefault(constraint, _Job(constraint)).waiting.append((owner, future))
            if not self._idle and len(self._probes) < NUM_WORKERS:
                self._probes.append(probe := Probe())
                threading.Thread(target=self._work, args=(probe,), name="constraints", daemon=True).start()
            self._changed.notify()
        return future

    # ---- in the threads of the pool --------------------------------------------------------------------

    def _work(self, probe: Probe) -> None:
        if sys.platform == "linux":  # elsewhere priorities belong to whole processes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (job := self._take()) is not None:
            began = time.monotonic()
            result = self._compile(probe, job.constraint)
            took_s = time.monotonic() - began
            with self._changed:
                self._jobs.pop(job.constraint, None)
                waiting = job.take()
                for owner, _ in waiting:
                    self._used_s[owner] = self._used_s.pop(owner, 0.0) + took_s
                while len(self._used_s) > _MAX_OWNERS:
                    self._used_s.popitem(last=False)
                self._changed.notify_all()
            _settle(waiting, result)

    def _compile(self, probe: Probe, constraint: Constraint) -> Matcher | BaseException:
        try:
            if constraint.kind not in _TRUSTED:
                refusal = probe.refusal(self._compiler.vocabulary, constraint)
                if refusal:
                    self._compiler.refuse(constraint, refusal)
                    return ConfigError(refusal)
            return self._compiler.matcher(constraint)
        except ChatwrightError as error:
            return error
        except BaseException as error:  # a panic of the compiler is none of Exception's
            return EngineGone(f"the constraint could not be compiled: {type(error).__name__}")

    def _take(self) -> _Job | None:
        """The next constraint to compile; None at the end."""
        with self._changed:
            while True:
                for constraint, job in list(self._jobs.items()):
                    if not job.running and not job.owners:
                        del self._jobs[constraint]  # those who asked have left
                busy = {owner for job in self._jobs.values() if job.running for owner in job.owners}
                ready = [job for job in self._jobs.values() if not job.running and job.owners - busy]
                if self._closed:
                    return None
                if ready:
                    job = min(ready, key=lambda one: min(self._used_s.get(owner, 0.0) for owner in one.owners - busy))
                    job.running = True
                    return job
                self._idle += 1
                self._changed.wait()
                self._idle -= 1


def _settle(waiting: list[tuple[str, Future[Matcher]]], result: Matcher | BaseException) -> None:
    """Give every request its matcher or its error."""
    for _, future in waiting:
        if not future.set_running_or_notify_cancel():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result.copy())
