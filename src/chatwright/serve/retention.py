"""The age at which entries leave the audit log, and the thread that removes them while the server runs."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chatwright.serve import audit_bounds
from chatwright.serve.auth_tables import ApiKey, AuditEvent
from chatwright.serve.services import Services
from chatwright.workspace.database import Workspace, now

BATCH = 2000
EVERY_S = 60.0
PRUNE_EVERY_S = 3600.0
log = logging.getLogger(__name__)


def prune(workspace: Workspace, days: float) -> int:
    """Delete entries that are older, in short transactions; the log then has an entry with their number. 0 days: none."""
    if not days:
        return 0
    before, deleted = now() - days * 86_400, 0
    while True:
        with workspace.session() as session:
            ids = _old(session, before)
            session.execute(delete(AuditEvent).where(AuditEvent.id.in_(ids)))
            deleted += len(ids)
            over = len(ids) < BATCH
            if over and deleted:
                detail = {"entries": deleted, "days": days}
                session.add(AuditEvent(actor="server", action="audit.prune", detail=detail))
        if over:
            return deleted


def _old(session: Session, before: float) -> list[int]:
    """Ids of entries to delete. The revocation of one of the server's own keys stays: a start reads it (`keys.py`)."""
    own = select(ApiKey.id).where(ApiKey.user_id.is_(None))
    kept = (AuditEvent.action == "key.revoke") & AuditEvent.target.in_(own)
    # Entries of earlier removals stay: else each one would be an entry about the one before.
    wanted = (AuditEvent.at < before, ~kept, AuditEvent.action != "audit.prune")
    return list(session.scalars(select(AuditEvent.id).where(*wanted).order_by(AuditEvent.id).limit(BATCH)))


class Housekeeper:
    """Writes counted refusals when their hour is over, and removes old entries, in a thread."""

    def __init__(self, shared: Services) -> None:
        self._shared, self._stopping = shared, threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and write what was counted."""
        self._stopping.set()
        self._thread.join()
        audit_bounds.write(self._shared.workspace, self._shared.refusals.due(everything=True))

    def _run(self) -> None:
        prune_at = time.monotonic()
        while not self._stopping.wait(EVERY_S):
            try:
                audit_bounds.write(self._shared.workspace, self._shared.refusals.due())
                if time.monotonic() >= prune_at:
                    prune_at = time.monotonic() + PRUNE_EVERY_S
                    prune(self._shared.workspace, self._shared.settings.audit_days)
            except Exception:  # the next round tries again
                log.exception("housekeeping failed")
