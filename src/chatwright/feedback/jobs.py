"""Background jobs: taken by lease, guarded by fencing tokens, so that each effect happens once whoever dies when.

A worker that stops renewing its lease loses the job to the next one, whose fence is higher. Whatever a job writes to the
database goes through `effect`, in the same transaction: it is refused to holders of an older fence and happens once by name
(Kleppmann, "How to do distributed locking", 2016). What a job writes to folders must be of the kind that can be done again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from chatwright.errors import ChatwrightError, UsageError
from chatwright.feedback.jobs_tables import JobEffect, JobRow
from chatwright.workspace.database import now

LEASE_S = 30.0
MAX_ATTEMPTS = 5
ENDED = ("done", "failed", "cancelled")
_JOB, _FENCE = "CHATWRIGHT_JOB", "CHATWRIGHT_JOB_FENCE"


class FencedOff(ChatwrightError):
    """The job has gone to another worker, or was ended; what this one still does counts for nothing."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on a job, while it is renewed."""

    job: str
    fence: int
    kind: str = ""
    settings: Mapping[str, Any]
    attempt: int = 1

    def environment(self) -> dict[str, str]:
        """What tells a process that it works under this lease."""
        return {_JOB: self.job, _FENCE: str(self.fence)}

    @classmethod
    def from_environment(cls) -> Lease | None:
        """The lease that this process works under; None when it was started by hand."""
        job, fence = os.environ.get(_JOB, ""), os.environ.get(_FENCE, "")
        return cls(job=job, fence=int(fence), settings={}) if job and fence.isdecimal() else None


def enqueue(session: Session, kind: str, settings: Mapping[str, Any], actor: str) -> JobRow:
    """Add a job to the end of the queue."""
    job = JobRow(kind=kind, settings=dict(settings), created_by=actor, created_at=now())
    session.add(job)
    session.flush()
    return job


def take(
    session: Session, worker: str, kinds: Sequence[str], *, lease_s: float = LEASE_S, max_attempts: int = MAX_ATTEMPTS
) -> Lease | None:
    """The oldest job that waits, or whose worker is silent. None when there is none."""
    free = or_(JobRow.state == "queued", and_(JobRow.state == "running", JobRow.lease_expires_at < now()))
    query = select(JobRow).where(free, JobRow.kind.in_(kinds)).order_by(JobRow.created_at, JobRow.id).limit(1)
    while (job := session.scalar(query.with_for_update(skip_locked=True))) is not None:
        job.fence += 1  # also where the job ends here: a silent worker may come back
        if job.cancel or job.attempts >= max_attempts:
            reason = job.message if job.cancel else f"its worker died {job.attempts} times"
            job.state, job.message, job.ended_at = "cancelled" if job.cancel else "failed", reason, now()
            session.flush()
            continue
        job.state, job.worker, job.attempts = "running", worker, job.attempts + 1
        job.lease_expires_at, job.started_at = now() + lease_s, job.started_at or now()
        session.flush()
        return Lease(job=job.id, fence=job.fence, kind=job.kind, settings=dict(job.settings), attempt=job.attempts)
    return None


def renew(session: Session, lease: Lease, *, line: str = "", lease_s: float = LEASE_S) -> bool:
    """Keep the lease; `line`: the newest of the log. Returns whether somebody wants the job cancelled. Raises FencedOff."""
    job = _held(session, lease)
    job.lease_expires_at = now() + lease_s
    if line and job.progress.get("line") != line:
        job.progress = {**job.progress, "line": line}
    return job.cancel


def report(session: Session, lease: Lease, **progress: Any) -> None:
    """Say how far the job is: stage, number, of. Raises FencedOff."""
    job = _held(session, lease)
    job.progress = {**job.progress, **progress}


def note(session: Session, lease: Lease, **result: Any) -> None:
    """Add to what the job has come to. Raises FencedOff."""
    job = _held(session, lease)
    job.result = {**job.result, **result}


def effect(session: Session, lease: Lease, name: str, **data: Any) -> bool:
    """Whether what belongs to effect `name` is to be done now, in this transaction; False when it was done before.
    Raises FencedOff."""
    _held(session, lease)
    if session.get(JobEffect, (lease.job, name)) is not None:
        return False
    session.add(JobEffect(job_id=lease.job, name=name, fence=lease.fence, data=data, at=now()))
    session.flush()
    return True


def finish(session: Session, lease: Lease, state: str, *, message: str = "", **result: Any) -> None:
    """End the job. Raises FencedOff."""
    assert state in ENDED, state
    job = _held(session, lease)
    job.state, job.message, job.ended_at, job.result = state, message, now(), {**job.result, **result}


def told(session: Session, job_id: str) -> str:
    """The message of a job so far: of a cancelled one, why."""
    job = session.get(JobRow, job_id)
    return job.message if job is not None else ""


def give_back(session: Session, lease: Lease) -> None:
    """Let another worker go on at once: this one is asked to stop. Raises FencedOff."""
    job = _held(session, lease)
    job.state, job.worker, job.attempts = "queued", "", job.attempts - 1


def cancel(session: Session, job_id: str) -> JobRow:
    """Ask for a job's end: at once when it waits, by its worker when it runs. UsageError when there is none."""
    job = session.scalar(select(JobRow).where(JobRow.id == job_id).with_for_update())
    if job is None:
        raise UsageError(f"job {job_id}: there is no such job")
    waiting = session.execute(
        update(JobRow).where(JobRow.id == job_id, JobRow.state == "queued").values(state="cancelled", ended_at=now())
    )
    assert isinstance(waiting, CursorResult)
    if not waiting.rowcount and job.state == "running":
        job.cancel = True
    session.flush()
    session.refresh(job)
    return job


def jobs(session: Session, *, limit: int = 100) -> list[JobRow]:
    """The newest jobs."""
    return list(session.scalars(select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)))


def _held(session: Session, lease: Lease) -> JobRow:
    """The job's row, locked until the transaction ends. Raises FencedOff when the lease is not the newest one."""
    job = session.scalar(
        select(JobRow).where(JobRow.id == lease.job).with_for_update().execution_options(populate_existing=True)
    )
    if job is None or job.fence != lease.fence or job.state != "running":
        raise FencedOff(f"job {lease.job}: another worker has it or it was ended; this one (fence {lease.fence}) stops")
    return job
