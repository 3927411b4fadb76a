"""Places at tasks. The caller has locked the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.orm import Session

from chatwright.feedback.tables import Lease
from chatwright.workspace.database import now


def active_lease(session: Session, task_id: str, labeller: str) -> Lease | None:
    """The place somebody holds; None when he has none, or it has run out."""
    lease = session.get(Lease, (task_id, labeller), populate_existing=True)
    return lease if lease is not None and lease.expires_at > now() else None


def others_leases(task_id: Any, labeller: str) -> ScalarSelect[int]:
    """As SQL: how many places at a task (an id or a column) are held by others."""
    held = select(func.count()).select_from(Lease)
    return held.where(Lease.task_id == task_id, Lease.labeller != labeller, Lease.expires_at > now()).scalar_subquery()


def run_lease(session: Session, task_id: str, labeller: str, seconds: float, shown_order: Sequence[int]) -> Lease:
    """Give somebody a place for so long from now on. Answers stay in the order in which they were shown before."""
    lease = session.get(Lease, (task_id, labeller), populate_existing=True)
    if lease is None:
        lease = Lease(task_id=task_id, labeller=labeller, shown_order=list(shown_order), draft_model="")
        session.add(lease)
    lease.expires_at = now() + seconds
    session.flush()
    return lease
