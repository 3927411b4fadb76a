"""`python -m chatwright.feedback.launch NICE BYTES PARENT -- ARGV...`: become the command ARGV, with less of the machine.

A process between worker and command, since `preexec_fn` is not safe in a server with threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Limit this process, tie its life to its parent's, and run the command in it (a program's path and its arguments)."""
    niceness, num_bytes, parent, command = int(argv[0]), int(argv[1]), int(argv[2]), argv[4:]
    if sys.platform == "linux":
        # A killed worker must not leave a command that trains on beside that of its successor.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.nice(niceness)
    _nice_session(niceness)
    if num_bytes:
        # Not RLIMIT_AS: mapped weights are no use of memory, and torch reserves far more addresses than it touches.
        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, num_bytes))
    os.execv(command[0], command)  # all of the above stays in force


def _nice_session(niceness: int) -> None:
    """The same for this process's session. Where Linux groups processes by session (autogroup), `nice` only orders those
    within one, and a job with a session of its own would take as much as the server."""
    with contextlib.suppress(OSError):  # another system, or no such groups
        if os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text(str(min(19, niceness)), encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1:])
