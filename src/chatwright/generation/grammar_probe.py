"""Compiles constraints in a process that can be killed, to learn whether they are safe to compile in the server.

`Probe` starts the process and asks it; `main` runs inside. The process keeps the vocabulary and forks a child for each
constraint. The child has limits of CPU time and memory, so neither an exponential check nor a crash of the compiler
reaches the server. One module for both sides keeps the protocol in one place. No torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chatwright.errors import ConfigError
from chatwright.generation.api import Constraint
from chatwright.generation.grammar import Vocabulary, compile_matcher, try_out

CPU_S = 1.0  # of one constraint; what people write takes 0.2 at most
STEP_S = 0.25  # CPU of the first tokens together: a slower grammar would hold every stream up
WALL_S = 10.0  # on a machine that is busy with other things
START_S = 60.0
MEMORY_BYTES = 512 * 2**20  # above what the process has with its vocabulary
NICE = 10


class Probe:
    """One process that compiles constraints on trial. For one thread at a time; `close` from any thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def refusal(self, vocabulary: Vocabulary, constraint: Constraint) -> str:
        """Why the constraint must not be compiled here; "" when it is safe. The message is one of ConfigError.
        `vocabulary` is the same in every call."""
        for _ in range(2):  # the process may have been killed since the last time
            try:
                process = self._started(vocabulary)
                assert process.stdin is not None
                process.stdin.write(json.dumps(asdict(constraint)).encode() + b"\n")
                process.stdin.flush()
                return str(_answer(process, WALL_S + 5.0)["refusal"])
            except (OSError, ValueError, EOFError, TimeoutError):
                self._kill()
        return f"{constraint.kind}: could not be checked: the process that compiles constraints ended; try again"

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._kill()

    def _started(self, vocabulary: Vocabulary) -> subprocess.Popen[bytes]:
        if self._closed:
            raise OSError("closed")
        if self._process is None or self._process.poll() is not None:
            self._kill()  # closes the pipes of one that has ended
            package = str(Path(__file__).parents[2])
            paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
            code = "from chatwright.generation.grammar_probe import main; main()"
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            env = {**os.environ, "PYTHONPATH": paths}
            self._process = process = subprocess.Popen([sys.executable, "-P", "-c", code], env=env, **pipes)
            if self._closed:  # meanwhile
                self._kill()
                raise OSError("closed")
            assert process.stdin is not None
            process.stdin.write(json.dumps(vocabulary.to_json()).encode() + b"\n")
            process.stdin.flush()
            _answer(process, START_S)
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not sent yet
                        pipe.close()


def _answer(process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any]:
    """The next line of the process. Raises TimeoutError, EOFError."""
    assert process.stdout is not None
    timer = threading.Timer(timeout_s, process.kill)
    timer.daemon = True
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    if not line.endswith(b"\n"):
        raise EOFError("the process ended")
    answer: dict[str, Any] = json.loads(line)
    return answer


# ---- inside the process ------------------------------------------------------------------------------------


def main() -> None:
    """Answer constraints (a line of JSON each) until standard input ends. First comes the vocabulary."""
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the server, which closes the pipe
    vocabulary = Vocabulary.from_json(json.loads(sys.stdin.buffer.readline()))
    tokenizer = vocabulary.tokenizer()
    _reply({"ready": True})
    for line in sys.stdin.buffer:
        constraint = Constraint(**json.loads(line))
        _reply({"refusal": _in_child(tokenizer, vocabulary, constraint)})


def _reply(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _in_child(tokenizer: Any, vocabulary: Vocabulary, constraint: Constraint) -> str:
    """The refusal of a constraint, "" for none, found out in a child of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _limit()
        with os.fdopen(writing, "wb") as file:
            file.write(_try(tokenizer, vocabulary, constraint).encode())
        os._exit(0)
    os.close(writing)
    ends_at, parts = time.monotonic() + WALL_S, list[bytes]()
    with os.fdopen(reading, "rb", buffering=0) as file:
        while select.select([file], [], [], max(0.0, ends_at - time.monotonic()))[0] and (part := file.read(65_536)):
            parts.append(part)
    with contextlib.suppress(ProcessLookupError):
        if time.monotonic() >= ends_at:
            os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return b"".join(parts).decode() if status == 0 else f"{constraint.kind}: {_death(status)}"


def _limit() -> None:
    """Limits of the child. The timer ends it by SIGPROF after CPU_S of CPU time, whatever it is doing."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # only Linux tells the size; elsewhere the CPU limit has to do
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _try(tokenizer: Any, vocabulary: Vocabulary, constraint: Constraint) -> str:
    try:
        matcher = compile_matcher(tokenizer, constraint)
        began = time.process_time()
        try_out(matcher, constraint, vocabulary.stop_ids)
    except (ConfigError, MemoryError) as error:
        return str(error) or f"{constraint.kind}: takes too much memory to compile; simplify it"
    took_s = time.process_time() - began
    if took_s > STEP_S:
        return f"{constraint.kind}: cannot be followed: its first tokens take {took_s:.1f} s of computing; simplify it"
    return ""


def _death(status: int) -> str:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGPROF, signal.SIGKILL):
        return f"takes more than {CPU_S:g} s to compile; simplify it (fewer or shorter patterns, smaller repetitions)"
    return "takes too much memory to compile, or the compiler cannot read it; simplify it"
