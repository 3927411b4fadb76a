"""A job for tests: `python job_steps.py FOLDER NUMBER` brings about NUMBER effects, each of them in the audit log.

`python job_steps.py worker FOLDER NUMBER LEASE_S` is a worker for such jobs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from chatwright.feedback import jobs
from chatwright.feedback.jobs import Lease
from chatwright.feedback.worker import Limits, Worker
from chatwright.serve.auth_tables import AuditEvent
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace


def work(folder: str, number: int) -> None:
    metadata()
    lease = Lease.from_environment()
    assert lease is not None
    Path(folder, "pid").write_text(str(os.getpid()))
    with Workspace.open(folder, os.environ["CHATWRIGHT_DATABASE_URL"]) as workspace:
        for n in range(number):
            with workspace.session() as session:
                jobs.report(session, lease, number=n, of=number)
                if jobs.effect(session, lease, f"step-{n}"):
                    session.add(AuditEvent(actor=lease.job, action=f"step-{n}", target="", detail={}, address=""))
            print(f"step {n}", flush=True)
            time.sleep(0.02)


def worker(folder: str, number: int, lease_s: float) -> None:
    metadata()
    with Workspace.open(folder, os.environ.get("CHATWRIGHT_DATABASE_URL", "")) as workspace:
        line = [sys.executable, __file__, folder, str(number)]
        commands = {"steps": lambda workspace, settings: line}
        limits = Limits(memory_bytes=0)
        Worker(workspace, commands=commands, limits=limits, lease_s=lease_s, poll_s=0.05, max_attempts=10**6).run()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        work(sys.argv[1], int(sys.argv[2]))
