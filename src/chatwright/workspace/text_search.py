"""Search for a part of a text, by the database's own index: FTS5 with trigrams on SQLite, pg_trgm on PostgreSQL.

The index belongs to one table, `SEARCHED`, and follows it by triggers (SQLite) or by itself (PostgreSQL). It can be made
again at any time and is no part of a revision. Without it (SQLite below 3.34 or built without FTS5; a PostgreSQL whose
`pg_trgm` may not be installed) searches read the texts, a bounded number at a time.
"""

from __future__ import annotations

import logging
import re
import sqlite3

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chatwright.workspace.database import Workspace

log = logging.getLogger(__name__)
SEARCHED = "feedback_texts"
"""The table: `seq` is its key, `text` what is searched, already folded to one case."""
INDEX = f"{SEARCHED}_search"
"""Name of the index; on SQLite it is a virtual table, whose own tables begin with this name."""
_TRIGRAM = 3
_MOST_TRIGRAMS = 24  # of one query; the text itself is compared afterwards
_CANCELLED = "57014"  # SQLSTATE of a statement that reached its timeout
_PAGES_AT_ONCE = 500  # of a merge: between two of them other writers get their turn
_OLD = f"INSERT INTO {INDEX}({INDEX}, rowid, text) VALUES ('delete', old.seq, old.text)"
_NEW = f"INSERT INTO {INDEX}(rowid, text) VALUES (new.seq, new.text)"
_TRIGGERS = {"insert": f"{_NEW};", "delete": f"{_OLD};", "update": f"{_OLD}; {_NEW};"}


def ensure_index(connection: Connection) -> bool:
    """Make the index if it is missing or incomplete; give whether there is one. A SQLite that lacks FTS5 loses the triggers
    of an index made elsewhere, because no text could be written with them; the next SQLite that has FTS5 makes it again."""
    if connection.dialect.name == "sqlite":
        return _ensure_sqlite(connection)
    return _ensure_postgresql(connection)


def has_index(session: Session) -> bool:
    """True when searches can use the index."""
    if session.get_bind().dialect.name == "sqlite":
        wanted = len(_TRIGGERS)
        query = text("SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE :name")
        return session.scalar(query, {"name": f"{INDEX}%"}) == wanted
    return session.scalar(text("SELECT to_regclass(:name)"), {"name": INDEX}) is not None


def is_indexed(session: Session, wanted: str) -> bool:
    """True when the index can answer for `wanted`: there is one, and it knows three characters in a row of it."""
    if not has_index(session):
        return False
    if session.get_bind().dialect.name == "sqlite":
        return len(wanted) >= _TRIGRAM
    # A database with the locale C takes letters beyond ASCII for punctuation, so ask it.
    known = text("SELECT cardinality(show_trgm(:run)) > 0")
    return any(session.scalar(known, {"run": run}) for run in re.findall(r"[^\W_]{3,}", wanted)[:_MOST_TRIGRAMS])


def search(session: Session, wanted: str, *, before: int, since: int, limit: int, indexed: bool) -> list[int]:
    """`seq` of texts that hold `wanted` (folded like them) with since <= seq < before, the highest first. `indexed`: by the
    index, as `is_indexed` allows; otherwise every text of the range is read."""
    given = {"wanted": wanted, "before": before, "since": since, "limit": limit}
    holds, source = "strpos(text, :wanted) > 0", SEARCHED
    if session.get_bind().dialect.name == "sqlite":
        holds = "instr(text, :wanted) > 0"
        if indexed:  # the index keeps which trigrams a text has, not where they are
            source, holds = INDEX, f"{INDEX} MATCH :trigrams AND {holds}"
            given["trigrams"] = _trigrams(wanted)
    elif indexed:
        holds = "text LIKE :pattern"
        given["pattern"] = "%" + re.sub(r"([\\%_])", r"\\\1", wanted) + "%"
    seq = "rowid" if source == INDEX else "seq"
    query = (
        f"SELECT {seq} FROM {source} WHERE {holds} AND {seq} < :before AND {seq} >= :since ORDER BY {seq} DESC LIMIT :limit"
    )
    return [int(row[0]) for row in session.execute(text(query), given)]


def search_in_time(session: Session, wanted: str, *, before: int, limit: int, timeout_ms: int) -> list[int] | None:
    """As `search` by PostgreSQL's index, over all texts before `before`; None when it takes longer than `timeout_ms`. A
    phrase of common words takes long: the index gives every text that holds its trigrams, and each is then read."""
    assert session.get_bind().dialect.name == "postgresql"
    kept = session.scalar(text("SELECT current_setting('statement_timeout')"))
    limited = text("SELECT set_config('statement_timeout', :value, true)")
    try:
        with session.begin_nested():  # a rollback to its savepoint takes the limit back too
            session.execute(limited, {"value": str(timeout_ms)})
            found = search(session, wanted, before=before, since=0, limit=limit, indexed=True)
            session.execute(limited, {"value": kept})
            return found
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _CANCELLED:
            raise
        return None


def _trigrams(wanted: str) -> str:
    """An FTS5 query for texts that hold trigrams of `wanted`."""
    starts = [*range(0, len(wanted) - _TRIGRAM, 2), len(wanted) - _TRIGRAM][-_MOST_TRIGRAMS:]
    return " AND ".join('"' + wanted[at : at + _TRIGRAM].replace('"', '""') + '"' for at in starts)


def purge(workspace: Workspace) -> None:
    """Rewrite SQLite's index, so that nothing of deleted texts stays in it: until then it only notes that they are gone.
    Other writers get their turn between parts of the work."""
    with workspace.reading() as session:
        if not workspace.is_sqlite or not has_index(session):
            return
    merge = text(f"INSERT INTO {INDEX}({INDEX}, rank) VALUES ('merge', :pages)")
    pages = -_PAGES_AT_ONCE  # negative: begin to merge all parts into one; positive: continue
    while True:
        with workspace.session() as session:
            driver = session.connection().connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            before = driver.total_changes
            session.execute(merge, {"pages": pages})
            if driver.total_changes - before < 2:  # FTS5's documented sign that there is nothing left to merge
                return
        pages = _PAGES_AT_ONCE


def _ensure_sqlite(connection: Connection) -> bool:
    found = connection.execute(
        text("SELECT type, name, tbl_name FROM sqlite_master WHERE type IN ('table', 'trigger') AND name LIKE :name"),
        {"name": f"{SEARCHED}%"},
    ).all()
    if not any(row.type == "table" and row.name == SEARCHED for row in found):
        return False  # an older revision
    triggers = [row.name for row in found if row.type == "trigger" and row.tbl_name == SEARCHED]
    able = _sqlite_has_trigrams()
    if len(triggers) == len(_TRIGGERS) and able:
        return True
    for name in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    if not able:
        log.warning(
            "SQLite %s lacks FTS5 with trigrams: searches for texts read them one after another", sqlite3.sqlite_version
        )
        return False
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {INDEX}")
    connection.exec_driver_sql(
        f"CREATE VIRTUAL TABLE {INDEX} USING fts5(text, content='{SEARCHED}', content_rowid='seq', "
        "tokenize='trigram case_sensitive 1', detail=none)"
    )
    connection.exec_driver_sql(f"INSERT INTO {INDEX}({INDEX}) VALUES ('rebuild')")
    for what, statements in _TRIGGERS.items():
        connection.exec_driver_sql(
            f"CREATE TRIGGER {INDEX}_{what} AFTER {what.upper()} ON {SEARCHED} BEGIN {statements} END"
        )
    return True


def _sqlite_has_trigrams() -> bool:
    probe = sqlite3.connect(":memory:")
    try:
        probe.execute("CREATE VIRTUAL TABLE probe USING fts5(text, tokenize='trigram case_sensitive 1')")
    except sqlite3.OperationalError:
        return False
    finally:
        probe.close()
    return True


def _ensure_postgresql(connection: Connection) -> bool:
    table, index = connection.execute(
        text("SELECT to_regclass(:table), to_regclass(:index)"), {"table": SEARCHED, "index": INDEX}
    ).one()
    if table is None or index is not None:
        return index is not None
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
            connection.execute(text(f"CREATE INDEX {INDEX} ON {SEARCHED} USING gin (text gin_trgm_ops)"))
    except DBAPIError as error:
        log.warning(
            "PostgreSQL: pg_trgm cannot be used (%s): searches for texts read them one after another",
            type(error.orig).__name__,
        )
        return False
    return True
