"""Keeps what the data browser filters by with each task: the agreement of its labellers, and its texts for the search.

Both are functions of the stored rows, so a label, a withdrawal and a rebuild lead to the same values.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.feedback import payloads
from chatwright.feedback.agreement import item_agreement
from chatwright.feedback.tables import LabelRow, TaskRow, TaskText
from chatwright.feedback.values import order_of
from chatwright.workspace import text_search

COMPARED = ("rank", "compare")
"""Kinds of labels whose agreement is measured."""
HITS = 2_000
"""Most tasks that one search gives."""
BUDGET_S = 0.1
"""After this time no further part of the tasks is searched."""
INDEX_TIMEOUT_MS = 250
"""Longest time that PostgreSQL's index is asked in one search."""
INDEXED_AT_ONCE, READ_AT_ONCE = 10_000, 2_500
"""Tasks in a part, with the index and without."""
_NEWEST = 2**62
_AT_ONCE = 400  # SQLite takes a limited number of values in a statement


def agreement(session: Session, task: TaskRow) -> float | None:
    """Share of pairs on which the current rankings of a task agree; None with fewer than two."""
    if task.labels_count < 2 or task.kind not in COMPARED:
        return None
    labels = session.scalars(select(LabelRow).where(LabelRow.task_id == task.id, LabelRow.state == "current"))
    orders = {label.labeller: order_of(label.kind, label.value, len(task.answers)) for label in labels}
    return item_agreement({name: order for name, order in orders.items() if order is not None})


def index(session: Session, tasks: Sequence[TaskRow]) -> None:
    """Bring the searched texts of tasks up to date."""
    names = [task.id for task in tasks]
    written: dict[str, list[str]] = {}
    for task_id, payload_id in session.execute(
        select(LabelRow.task_id, LabelRow.payload_id)
        .where(LabelRow.task_id.in_(names), LabelRow.payload_id != "")
        .order_by(LabelRow.seq)
    ):
        written.setdefault(task_id, []).append(payload_id)
    held = {
        task.id: [task.prompt_payload, *(a["payload_id"] for a in task.answers), *written.get(task.id, ())] for task in tasks
    }
    kept = payloads.contents(session, [one for some in held.values() for one in some])
    for task in tasks:
        folded = "\n".join(fold(one) for name in held[task.id] for one in texts(kept.get(name)))
        row = session.get(TaskText, task.seq)
        if row is None:
            session.add(TaskText(seq=task.seq, task_id=task.id, text=folded))
        elif row.text != folded:
            row.text = folded
    session.flush()


def index_erased(session: Session, subject: str, payload_ids: Sequence[str]) -> None:
    """Take erased texts out of the search: those of the person's tasks, and of tasks that show one of the payloads."""
    session.flush()
    wanted = {task.id: task for task in session.scalars(select(TaskRow).where(TaskRow.subject == subject))}
    for start in range(0, len(payload_ids), _AT_ONCE):
        some = payload_ids[start : start + _AT_ONCE]
        labelled = select(LabelRow.task_id).where(LabelRow.payload_id.in_(some))
        for task in session.scalars(select(TaskRow).where(TaskRow.prompt_payload.in_(some) | TaskRow.id.in_(labelled))):
            wanted[task.id] = task
    found = sorted(wanted.values(), key=lambda task: task.seq)
    for start in range(0, len(found), _AT_ONCE):
        index(session, found[start : start + _AT_ONCE])


def fold(text: str) -> str:
    """A text as it is searched: without case, and without NUL and half surrogate pairs, which models may write and no
    database takes."""
    return text.casefold().encode("utf-8", "replace").decode().replace("\0", " ")


def texts(content: Any) -> Iterable[str]:
    """Texts of people and models in a payload."""
    if isinstance(content, Mapping):
        yield from (str(content[name]) for name in ("text", "comment") if isinstance(content.get(name), str))
        yield from (str(m.get("content", "")) for m in content.get("messages") or () if isinstance(m, Mapping))


def holding(session: Session, wanted: str, older_than: int | None) -> tuple[list[int], int | None]:
    """`seq` of tasks whose texts hold `wanted` in any case, the newest first, and where a next search continues; None when
    this one reached the oldest task. A search ends with `HITS` tasks, or after `BUDGET_S`.

    SQLite's index gives rows part by part. PostgreSQL's gives all rows of a word at once. So there the newest part is read
    first, and a word that is rare in it is looked up in the index, for `INDEX_TIMEOUT_MS` at most; then the next parts are
    read.
    """
    sqlite = session.get_bind().dialect.name == "sqlite"
    folded, found = fold(wanted), list[int]()
    known = text_search.is_indexed(session, folded)
    by_index, size = (known, INDEXED_AT_ONCE) if known and sqlite else (False, READ_AT_ONCE)
    before: int | None = older_than if older_than is not None else _NEWEST
    clock = time.thread_time if sqlite else time.monotonic  # PostgreSQL works in another process
    began = clock()
    while before is not None:
        since = _start_of_part(session, before, size)
        limit = HITS - len(found)
        some = text_search.search(session, folded, before=before, since=since or 0, limit=limit, indexed=by_index)
        found += some
        if len(some) == limit:
            return found, found[-1]
        if clock() - began > BUDGET_S:
            return found, since
        before = since
        if before is not None and known and not sqlite and len(some) < max(1, size // 250):
            limit = HITS - len(found)
            rest = text_search.search_in_time(session, folded, before=before, limit=limit, timeout_ms=INDEX_TIMEOUT_MS)
            if rest is not None:
                return found + rest, rest[-1] if len(rest) == limit else None
            known, began = False, clock()
    return found, None


def _start_of_part(session: Session, before: int, size: int) -> int | None:
    """The lowest `seq` of the `size` tasks before `before`; None when there are fewer."""
    older = select(TaskRow.seq).where(TaskRow.seq < before).order_by(TaskRow.seq.desc())
    return session.scalar(older.offset(size - 1).limit(1))
