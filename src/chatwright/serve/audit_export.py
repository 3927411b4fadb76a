"""The audit log as a file: JSON lines, or CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Literal

from sqlalchemy import select

from chatwright.serve.auth_tables import AuditEvent
from chatwright.workspace.database import Workspace

PAGE = 1000
Format = Literal["jsonl", "csv"]
_COLUMNS = ("id", "at", "time", "actor", "action", "target", "detail", "address")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes cells that begin so


def lines(workspace: Workspace, form: Format, *, since: float = 0.0, until: float = float("inf")) -> Iterator[str]:
    """The entries of a time (seconds since 1970, `until` excluded), the oldest first, in pieces of whole lines. Each page is
    read in a transaction for itself, so a slow reader holds nothing."""
    if form == "csv":
        yield "\ufeff" + _csv_line(_COLUMNS)  # the mark without which Excel takes UTF-8 for another encoding
    after = 0
    while True:
        query = select(AuditEvent).where(AuditEvent.id > after, AuditEvent.at >= since)
        if until != float("inf"):
            query = query.where(AuditEvent.at < until)
        with workspace.reading() as session:
            rows = session.scalars(query.order_by(AuditEvent.id).limit(PAGE)).all()
        if rows:
            after = rows[-1].id
            yield "".join(_line(row, form) for row in rows)
        if len(rows) < PAGE:
            return


def _line(row: AuditEvent, form: Format) -> str:
    values = {
        "id": row.id, "at": row.at, "time": _time(row.at), "actor": row.actor, "action": row.action, "target": row.target,
        "detail": row.detail, "address": row.address,
    }  # fmt: skip
    if form == "jsonl":
        return json.dumps(values, ensure_ascii=False) + "\n"
    return _csv_line([_cell(values[name]) for name in _COLUMNS])


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _cell(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _csv_line(cells: list[str] | tuple[str, ...]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
