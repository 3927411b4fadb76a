"""The end of browsers' sessions: an absolute one, and one after a time without requests."""

from __future__ import annotations

import logging

from sqlalchemy import ColumnElement, and_, or_, update
from sqlalchemy.exc import DBAPIError

from chatwright.serve.auth_tables import LoginSession
from chatwright.serve.settings import ServeConfig
from chatwright.workspace.database import Workspace, now

NOTE_S = 600.0
"""A session's last use is written down at most this often."""
log = logging.getLogger(__name__)


def is_open(settings: ServeConfig, row: LoginSession) -> bool:
    """True when a session has not ended."""
    idle_s = settings.session_idle_hours * 3600
    used_at = max(row.last_used_at, row.created_at)  # 0 in sessions that an older version began
    return row.expires_at >= now() and (not idle_s or used_at + idle_s >= now())


def has_ended(settings: ServeConfig) -> ColumnElement[bool]:
    """The same as a condition of a query, negated."""
    idle_s, at = settings.session_idle_hours * 3600, now()
    late = LoginSession.expires_at < at
    if not idle_s:
        return late
    unused = and_(LoginSession.last_used_at < at - idle_s, LoginSession.created_at < at - idle_s)
    return or_(late, unused)


def note_use(settings: ServeConfig, workspace: Workspace, row: LoginSession) -> None:
    """Write down that a session is used, now and then. A database that is busy loses a note, not the request."""
    before = now() - min(NOTE_S, settings.session_idle_hours * 360 or NOTE_S)
    if max(row.last_used_at, row.created_at) > before:
        return
    mine = (LoginSession.token_hash == row.token_hash, LoginSession.last_used_at < before)
    try:
        with workspace.session() as session:
            session.execute(update(LoginSession).where(*mine).values(last_used_at=now()))
    except DBAPIError as error:
        log.warning("the use of a session was not noted", extra={"fields": {"error": type(error).__name__}})
