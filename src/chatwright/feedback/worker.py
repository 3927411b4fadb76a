"""The worker: takes jobs and runs each as a `chatwright` process of low priority, so that serving stays responsive.

It has two lanes, each with one job at a time: an AI labelling of a minute does not wait for a retraining of a night.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from chatwright.errors import ConfigError
from chatwright.feedback import jobs
from chatwright.feedback.jobs import FencedOff, Lease
from chatwright.feedback.judges import ConfiguredJudge, environment_for, resolve_judge
from chatwright.feedback.purge import purge
from chatwright.workspace.database import Workspace, new_id

log = logging.getLogger("chatwright.jobs")
Command = Callable[[Workspace, Mapping[str, Any]], list[str]]
LOG_FILE = "log.txt"
_STOPPED = (143, -signal.SIGTERM, -signal.SIGKILL)
_LAST_BYTES = 4096
_LONGEST_PAUSE_S = 60.0
Lane = Literal["training", "labelling"]
LANES: tuple[Lane, ...] = ("training", "labelling")
_LEAST_LABELLING_BYTES = 2**30  # torch and a small model fit


def lane_of(kind: str) -> Lane:
    """The lane of a kind of job: a kind that is not known to be light gets the limits of training."""
    return "labelling" if kind == "label" else "training"


def default_memory_bytes() -> int:
    """Two thirds of the machine's memory: the rest is for the server and its models."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 2 // 3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The part of the machine that a training job gets; `for_lane` derives that of a labelling job."""

    nice: int = 10
    """Added to the priority number: 19 is the most polite."""
    threads: int = max(1, (os.cpu_count() or 2) - 1)
    """Threads of arithmetic; one core stays with the server."""
    memory_bytes: int = field(default_factory=default_memory_bytes)
    """Private memory beyond which the job fails; 0: no limit."""

    def for_lane(self, lane: Lane) -> Limits:
        """The limits of a lane's job. Labelling, which runs beside training: one thread, a quarter of the memory."""
        if lane == "training":
            return self
        share = min(self.memory_bytes, max(_LEAST_LABELLING_BYTES, self.memory_bytes // 4))
        return replace(self, threads=1, memory_bytes=share)


def flags(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings as arguments, without empty ones; nested ones with dots; `--name=value`: no value is taken for a flag."""
    found: list[str] = []
    for name, value in settings.items():
        flag = f"--{prefix}{name}".replace("_", "-")
        if isinstance(value, Mapping):
            found += flags(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            found.append(f"{flag}={'true' if value else 'false'}")
        elif isinstance(value, list | tuple):
            found += [flag, *map(str, value)] if value else []
        elif value is not None and value != "":
            found.append(f"{flag}={value}")
    return found


def command(*name: str) -> Command:
    """The command line of a `chatwright` command that works in the workspace."""

    def line(workspace: Workspace, settings: Mapping[str, Any]) -> list[str]:
        folder = f"--workspace={workspace.folder.absolute()}"
        return [sys.executable, "-m", "chatwright", *name, folder, *flags(settings)]

    return line


COMMANDS: Mapping[str, Command] = {"retrain": command("retrain"), "label": command("feedback", "label")}


def job_folder(workspace: Workspace, job_id: str) -> Path:
    """Where a job keeps its log."""
    return workspace.folder / "jobs" / job_id


class Worker:
    """Runs the jobs of each lane one after another, and the lanes beside one another.

    `commands` gives the command of each kind of job, `judges` the AI judges by name.
    """

    def __init__(
        self, workspace: Workspace, *, commands: Mapping[str, Command] = COMMANDS, limits: Limits | None = None,
        judges: Mapping[str, ConfiguredJudge] | None = None, lease_s: float = jobs.LEASE_S, poll_s: float = 1.0,
        grace_s: float = 20.0, max_attempts: int = jobs.MAX_ATTEMPTS,
    ) -> None:  # fmt: skip
        self.workspace, self.commands, self.limits = workspace, commands, limits or Limits()
        self.judges = judges or {}
        self.lease_s, self.poll_s, self.grace_s, self.max_attempts = lease_s, poll_s, grace_s, max_attempts
        self.name = f"{socket.gethostname()}:{os.getpid()}:{new_id('worker')[-8:]}"
        self._stop = threading.Event()
        self._purging = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a thread of this process until `stop`."""
        self._thread = threading.Thread(target=self.run, name="jobs", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let a running job save itself, give it back to the queue, and take no other."""
        self._stop.set()

    def stop(self) -> None:
        """`ask_to_stop`, and wait for the thread of `start`."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join(self.grace_s + 10)

    def run(self, *, until_empty: bool = False) -> None:
        """Take jobs until `stop`, or until none is left: a thread for each lane, the first of them the caller's."""
        lanes = [lane for lane in LANES if self._kinds(lane)]
        others = [
            threading.Thread(target=self._run_lane, args=(lane, until_empty), name=f"jobs-{lane}", daemon=True)
            for lane in lanes[1:]
        ]
        for thread in others:
            thread.start()
        for lane in lanes[:1]:
            self._run_lane(lane, until_empty)
        for thread in others:
            thread.join()

    def _kinds(self, lane: Lane) -> tuple[str, ...]:
        return tuple(kind for kind in self.commands if lane_of(kind) == lane)

    def _run_lane(self, lane: Lane, until_empty: bool) -> None:
        pause_s = self.poll_s
        while not self._stop.is_set():
            try:
                worked, pause_s = self.step(lane), self.poll_s
            except Exception:  # the database may be away, or the disk full, for a while; the thread must outlive that
                log.exception("a job could not be worked on")
                worked, pause_s = False, min(_LONGEST_PAUSE_S, 2 * pause_s)  # and not fill the log
            if not worked and until_empty:
                return
            if not worked:
                self._stop.wait(pause_s)

    def step(self, lane: Lane) -> bool:
        """Run one job of a lane to its end; False when there is none."""
        kinds = self._kinds(lane)
        with self.workspace.session() as session:
            lease = jobs.take(session, self.name, kinds, lease_s=self.lease_s, max_attempts=self.max_attempts)
        if lease is None:
            return False
        fields = {"job": lease.job, "kind": lease.kind, "lane": lane, "attempt": lease.attempt}
        log.info("job started", extra={"fields": fields})
        with contextlib.suppress(FencedOff):
            self._run(lease)
        with self._purging:
            purge(self.workspace)  # what the job wrote after a withdrawal of its texts
        return True

    def _run(self, lease: Lease) -> None:
        try:
            settings, api_key = resolve_judge(lease.settings, self.judges) if lease.kind == "label" else (lease.settings, "")
        except ConfigError as error:
            with self.workspace.session() as session:
                jobs.finish(session, lease, "failed", message=str(error))
            return
        folder = job_folder(self.workspace, lease.job)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / LOG_FILE).open("ab") as output:
            process = self._start(lease, settings, api_key, output.fileno())
            wanted = ""
            try:
                wanted = self._watch(lease, process, folder / LOG_FILE)
            finally:
                self._end(process)
        code, last = process.returncode, last_line(folder / LOG_FILE)
        with self.workspace.session() as session:
            if wanted == "cancel":
                jobs.finish(session, lease, "cancelled", message=jobs.told(session, lease.job))
            elif wanted == "stop" and code in _STOPPED:
                jobs.give_back(session, lease)
            elif code == 0:
                jobs.finish(session, lease, "done")
            else:
                jobs.finish(session, lease, "failed", message=last or f"the command ended with code {code}")

    def _start(self, lease: Lease, settings: Mapping[str, Any], api_key: str, output: int) -> subprocess.Popen[bytes]:
        argv, limits = self.commands[lease.kind](self.workspace, settings), self.limits.for_lane(lane_of(lease.kind))
        launch = [sys.executable, "-m", "chatwright.feedback.launch", str(limits.nice), str(limits.memory_bytes)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(limits.threads))
        url = self.workspace.engine.url.render_as_string(hide_password=False)
        environment = environment_for(os.environ, api_key) | threads | dict(lease.environment())
        environment |= {"CHATWRIGHT_DATABASE_URL": url, "NO_COLOR": "1"}
        return subprocess.Popen(
            [*launch, str(os.getpid()), "--", *argv], env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip

    def _watch(self, lease: Lease, process: subprocess.Popen[bytes], log_file: Path) -> str:
        """Renew the lease until the process ends ("") or is to end: "cancel", "stop". Raises FencedOff."""
        renewed = 0.0
        while process.poll() is None:
            if time.monotonic() - renewed > min(2.0, self.lease_s / 3):
                renewed = time.monotonic()
                with self.workspace.session() as session:
                    if jobs.renew(session, lease, line=last_line(log_file), lease_s=self.lease_s):
                        return "cancel"
            if self._stop.wait(0.1):
                return "stop"
        return ""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM, with which training commands save a checkpoint; SIGKILL to what does not listen."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(self.grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def last_line(path: Path) -> str:
    """The last line of a log that says something, at most 500 characters."""
    lines = tail(path, _LAST_BYTES).strip().splitlines()
    return lines[-1].strip()[:500] if lines else ""


def tail(path: Path, num_bytes: int) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - num_bytes))
            return file.read(num_bytes).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
