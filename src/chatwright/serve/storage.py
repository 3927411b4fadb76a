"""What a client is told when the disk or the database fails: that nothing of its request was kept, and when to try again.

A transaction that cannot be written is undone as a whole, so a label is either acknowledged and on the disk, or the client
keeps it (the web app's outbox tries such answers again). Nothing has to be restarted once there is room.
"""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

FULL = "storage_full"
FAILED = "storage_failed"
BUSY = "storage_busy"
RETRY_S = {FULL: 30.0, FAILED: 10.0, BUSY: 1.0}
STATUS = {FULL: 507, FAILED: 503, BUSY: 503}
WORDS = {
    FULL: "the server has no room left on its disk: nothing of this request was kept; keep what you sent, and send it again "
    "once its operator has made room",
    FAILED: "the server cannot reach its database or write to it: nothing of this request was kept; send it again later",
    BUSY: "the server's database is busy: nothing of this request was kept; send it again",
}
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# PostgreSQL's classes of SQLSTATE: 53 insufficient resources, 57 and 58 the server or its system, 08 the connection.
_FULL_SQLSTATE = {"53100"}
_BUSY_SQLSTATE = {"40001", "40P01", "55P03", "53300"}
_FAILED_CLASSES = ("08", "53", "57", "58")


def trouble(error: BaseException) -> str:
    """Which trouble of the storage an exception tells of: FULL, FAILED, BUSY; "" for any other exception."""
    if isinstance(error, PoolTimeout):
        return BUSY
    if isinstance(error, DBAPIError):
        return _of_driver(error)
    if isinstance(error, OSError) and error.errno in _FULL_ERRNO:
        return FULL
    cause = error.__cause__
    return trouble(cause) if isinstance(error, SQLAlchemyError) and cause is not None else ""


def _of_driver(error: DBAPIError) -> str:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(getattr(cause, "sqlite_errorname", "") or "")
    state = getattr(cause, "sqlstate", None)
    if state in _FULL_SQLSTATE:
        return FULL
    if state in _BUSY_SQLSTATE:
        return BUSY
    # Without a state the driver speaks for itself: there is no server, or the connection to it broke.
    lost = error.connection_invalidated or (state is None and type(cause).__name__ == "OperationalError")
    return FAILED if lost or (state or "").startswith(_FAILED_CLASSES) else ""


def _of_sqlite(name: str) -> str:
    if name == "SQLITE_FULL":
        return FULL
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BUSY
    return FAILED if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PROTOCOL")) else ""
