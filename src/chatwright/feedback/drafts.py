"""Unfinished work, kept by revisions: two windows cannot overwrite one another without being told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from chatwright.feedback import payloads
from chatwright.feedback.tables import DraftRow
from chatwright.feedback.tasks import locked
from chatwright.workspace.database import now


def keep(session: Session, task_id: str, labeller: str, *, revision: int, content: Mapping[str, Any]) -> int | None:
    """Keep a draft that was begun from `revision` (0: from nothing); gives its new revision. None, and nothing is
    changed, when another revision is in store. The same content again, sent because no answer came, is no conflict."""
    locked(session, task_id)  # two windows at once: one after the other
    row = session.get(DraftRow, (task_id, labeller), populate_existing=True)
    given = payloads.plain(content, "content")
    if row is None:
        if revision != 0:
            return None  # it was sent, or thrown away, meanwhile
        row = DraftRow(task_id=task_id, labeller=labeller, revision=0)
        session.add(row)
    elif row.revision == revision + 1 and row.content == given:
        return row.revision
    elif row.revision != revision:
        return None
    row.revision, row.content, row.updated_at = revision + 1, given, now()
    session.flush()
    return row.revision
