"""Search and agreement of tasks: both are computed here for the tasks that are there. The index of the texts is no part of
this revision (`chatwright.workspace.text_search`)."""
# ruff: noqa: D103

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_VERDICTS = {"a": "A>B", "b": "B>A", "tie": "A=B", "both_bad": "A=B"}
_BATCH = 400
_TASKS = sa.table(
    "feedback_tasks", sa.column("id"), sa.column("seq"), sa.column("kind"), sa.column("prompt_payload"),
    sa.column("answers", sa.JSON), sa.column("agreement"),
)  # fmt: skip
_LABELS = sa.table(
    "feedback_labels", sa.column("task_id"), sa.column("seq"), sa.column("kind"), sa.column("state"), sa.column("labeller"),
    sa.column("payload_id"), sa.column("value", sa.JSON),
)  # fmt: skip
_PAYLOADS = sa.table("payloads", sa.column("id"), sa.column("content", sa.JSON))
_TEXTS = sa.table("feedback_texts", sa.column("seq"), sa.column("task_id"), sa.column("text"))


def upgrade() -> None:
    op.create_table(
        "feedback_texts",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_feedback_texts")),
        sa.UniqueConstraint("task_id", name=op.f("uq_feedback_texts_task_id")),
    )
    with op.batch_alter_table("feedback_tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("agreement", sa.Float(), nullable=True))
        batch_op.create_index("ix_feedback_tasks_agreement", ["agreement"], unique=False)
        batch_op.create_index("ix_feedback_tasks_seq", ["seq"], unique=False)
    connection, last = op.get_bind(), ""
    batch = sa.select(_TASKS).order_by(_TASKS.c.id).limit(_BATCH)
    while tasks := connection.execute(batch.where(_TASKS.c.id > last)).all():
        _fill(connection, tasks)
        last = tasks[-1].id


def _fill(connection: sa.Connection, tasks: Any) -> None:
    labels: defaultdict[str, list[Any]] = defaultdict(list)
    names = [task.id for task in tasks]
    for label in connection.execute(sa.select(_LABELS).where(_LABELS.c.task_id.in_(names)).order_by(_LABELS.c.seq)):
        labels[label.task_id].append(label)
    held = {task.id: _payloads(task, labels[task.id]) for task in tasks}
    contents: dict[str, Any] = {}
    wanted = sorted({one for some in held.values() for one in some})
    for start in range(0, len(wanted), _BATCH):
        some = sa.select(_PAYLOADS).where(_PAYLOADS.c.id.in_(wanted[start : start + _BATCH]))
        contents.update((row.id, row.content) for row in connection.execute(some))
    rows = [
        {
            "seq": task.seq, "task_id": task.id,
            "text": "\n".join(_fold(one) for name in held[task.id] for one in _texts(contents.get(name))),
        }
        for task in tasks
    ]  # fmt: skip
    connection.execute(sa.insert(_TEXTS), rows)
    for task in tasks:
        value = _agreement(task.kind, labels[task.id])
        if value is not None:
            connection.execute(sa.update(_TASKS).where(_TASKS.c.id == task.id).values(agreement=value))


def _fold(text: str) -> str:
    return text.casefold().encode("utf-8", "replace").decode().replace("\0", " ")


def _payloads(task: Any, labels: list[Any]) -> list[str]:
    answers = [a.get("payload_id") for a in task.answers if isinstance(a, dict)] if isinstance(task.answers, list) else []
    return [one for one in (task.prompt_payload, *answers, *(label.payload_id for label in labels)) if one]


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from (content[name] for name in ("text", "comment") if isinstance(content.get(name), str))
        yield from (str(m.get("content", "")) for m in content.get("messages") or () if isinstance(m, dict))


def _agreement(kind: str, labels: list[Any]) -> float | None:
    """Share of pairs of answers that pairs of labellers order alike."""
    orders = {
        label.labeller: _levels(label) for label in labels if label.state == "current" and isinstance(label.value, dict)
    }
    relations: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for levels in orders.values() if kind in ("rank", "compare") else ():
        for first in levels:
            for second in levels:
                if first < second:
                    difference = levels[first] - levels[second]
                    relations[first, second][(difference > 0) - (difference < 0)] += 1
    num = sum(math.comb(seen.total(), 2) for seen in relations.values())
    same = sum(math.comb(count, 2) for seen in relations.values() for count in seen.values())
    return same / num if num else None


def _levels(label: Any) -> dict[str, int]:
    """Letter -> level of a ranking such as "D>C>A=B"; empty without one."""
    ranking = _VERDICTS.get(label.value.get("verdict", "")) if label.kind == "compare" else label.value.get("ranking")
    levels = enumerate(ranking.split(">")) if isinstance(ranking, str) and ranking else ()
    return {letter.strip(): place for place, tied in levels for letter in tied.split("=")}
