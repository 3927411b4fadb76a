"""Free text, kept apart from the events so that it can be erased."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright import jsonl
from chatwright.errors import DataError
from chatwright.feedback.tables import Payload
from chatwright.workspace.database import new_id

_AT_ONCE = 400  # SQLite takes a limited number of values in a statement


def plain(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`value` as it will be read back from the database. DataError when JSON or a database cannot hold it."""
    try:
        text = json.dumps(value, allow_nan=False)
        read: dict[str, Any] = json.loads(text)
        jsonl.check(read)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{name}: cannot be stored: {error}") from None
    return read


def keep(session: Session, content: Mapping[str, Any], *, subject: str = "") -> str:
    """Store a text; gives its id. `subject`: hash of the person it is from or about."""
    row = Payload(id=new_id("pay"), subject=subject, content=plain(content, "payload"))
    session.add(row)
    return row.id


def content(session: Session, payload_id: str) -> dict[str, Any] | None:
    """What a payload holds; None when it was erased, or for ""."""
    row = session.get(Payload, payload_id) if payload_id else None
    return row.content if row is not None else None


def contents(session: Session, payload_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What many payloads hold, by id; those that were erased are left out."""
    wanted = sorted({one for one in payload_ids if one})
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        rows = session.execute(select(Payload.id, Payload.content).where(Payload.id.in_(part)))
        found.update({row_id: kept for row_id, kept in rows if kept is not None})
    return found
