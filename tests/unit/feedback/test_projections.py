from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError, MissingError
from chatwright.feedback import projections, queue, store
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.projects import change_project, publish_guideline
from chatwright.feedback.tables import LabelRow, TaskRow
from chatwright.records import WeakOrder
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Workspace
from desk_data import project, task
from workspaces import KINDS, workspace_of

PEOPLE = ("ann", "bob", "cat", "dan")
VALUES: dict[str, list[dict[str, Any]]] = {
    "rank": [{"ranking": "A>B>C"}, {"ranking": "C>A=B", "likert": [1, 7, 3]}, {"cannot_judge": True}],
    "adjudicate": [{"ranking": "A=B>C"}],
    "compare": [{"verdict": "tie"}, {"verdict": "a"}],
    "rate": [{"likert": [1, 2, 3]}],
    "demonstrate": [{}],
    "prompt": [{}],
}


def dump(session: Session) -> dict[str, list[Any]]:
    """Every row of every projection."""
    session.flush()
    session.expire_all()
    found = {}
    for table in projections.PROJECTIONS:
        names = [column.key for column in inspect(table).columns]
        keys = inspect(table).primary_key
        rows = session.execute(select(*[getattr(table, name) for name in names]).order_by(*keys))
        found[table.__tablename__] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


class Desk:
    """Does one thing after another, chosen by numbers."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.project = project(session, name, overlap={"rank": 2}, allow_unranked=True)

    def pick(self, table: Any, n: int) -> Any:
        rows = self.session.scalars(select(table).order_by(table.seq)).all()
        return rows[n % len(rows)] if rows else None

    def do(self, action: int, n: int, who: str) -> None:
        actions = (
            self.add, self.claim, self.claim, self.send, self.send, self.send, self.undo, self.leave, self.lead, self.erase
        )  # fmt: skip
        # Refusals are part of life; what matters is what they leave behind.
        with contextlib.suppress(ConflictError, MissingError), self.session.begin_nested():
            actions[action % len(actions)](n, who)

    def add(self, n: int, who: str) -> None:
        kind = ("rank", "compare", "rate", "demonstrate", "rank")[n % 5]
        gold = WeakOrder.parse("A>B>C", 3) if n % 5 == 4 else None
        task(self.session, self.project, kind, k=2 if kind == "compare" else 3, subject=("", "p", "q")[n % 3], gold=gold)

    def claim(self, n: int, who: str) -> None:
        queue.claim(self.session, who, kinds=list(VALUES))

    def send(self, n: int, who: str) -> None:
        row = self.pick(TaskRow, n)
        if row is not None:
            options = [{"ranking": "B>A"}] if row.kind == "adjudicate" and len(row.answers) == 2 else VALUES[row.kind]
            payload = {"messages": [{"role": "assistant", "content": "x"}]} if row.kind == "demonstrate" else None
            given = queue.Submission(
                uuid=new_uuid(), task=row.id, labeller=who, value=options[n % len(options)], payload=payload
            )
            assert queue.submit(self.session, given) == queue.submit(self.session, given)

    def undo(self, n: int, who: str) -> None:
        row = self.pick(LabelRow, n)
        if row is not None:
            queue.undo(self.session, row.uuid, row.labeller)

    def leave(self, n: int, who: str) -> None:
        row = self.pick(TaskRow, n)
        if row is not None:
            (queue.skip if n % 3 else queue.flag)(self.session, row.id, who, "unclear", "odd" if n % 2 else "")

    def lead(self, n: int, who: str) -> None:
        row = self.pick(TaskRow, n)
        if n % 7 == 0:
            publish_guideline(self.session, self.project, "en", f"Be good {n}", actor="lead")
        elif n % 7 == 1:
            change_project(self.session, self.project, actor="lead", settings={"k": 2 + n % 5}, archived=bool(n % 2))
        elif row is not None:
            {
                2: lambda: queue.adjudicate(self.session, row.id, actor="lead"),
                3: lambda: queue.close(self.session, row.id, actor="lead"),
                4: lambda: queue.clear_flags(self.session, row.id, actor="lead"),
                5: lambda: queue.set_priorities(self.session, {row.id: n / 7}, actor="lead"),
                6: lambda: queue.record_merge(
                    self.session, task=row.id, method="borda", actor="lead", detail={"n": n},
                    order=WeakOrder.from_ranks(list(range(max(2, len(row.answers))))),
                ) if len(row.answers) > 1 else None,
            }[n % 7]()  # fmt: skip

    def erase(self, n: int, who: str) -> None:
        if n % 4 == 0:
            store.erase(self.session, "pq"[n % 2], actor="lead")


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 200), st.sampled_from(PEOPLE)), min_size=5, max_size=50)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    metadata()
    with Workspace.open(tmp_path_factory.mktemp("workspace"), "sqlite://") as workspace:
        metadata().create_all(workspace.engine)
        yield workspace


class _Over(Exception):
    pass


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_rebuilt_projections_equal_the_live_ones(memory: Workspace, steps: list[tuple[int, int, str]]) -> None:
    with contextlib.suppress(_Over), memory.session() as session:
        desk = Desk(session, "desk")
        for n in range(3):
            desk.add(n, "lead")
        for step in steps:
            desk.do(*step)
        live = dump(session)
        store.rebuild(session)
        assert dump(session) == live
        counts = {row["id"]: row for row in live["feedback_tasks"]}
        for row in counts.values():  # never more labels that count than wanted
            current = [x for x in live["feedback_labels"] if x["task_id"] == row["id"] and x["state"] == "current"]
            assert len(current) == row["labels_count"] and (row["everybody"] or len(current) <= row["overlap"])
            assert len({x["labeller"] for x in current}) == len(current)
        raise _Over  # nothing of it stays


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_history_on_both_databases(kind: str, tmp_path: Path) -> None:
    rng = random.Random(4)
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            desk = Desk(session, "desk")
        for _ in range(120):
            with workspace.session() as session:
                desk.session = session
                desk.do(rng.randrange(9), rng.randrange(200), rng.choice(PEOPLE))
        with workspace.session() as session:
            store.erase(session, "p", actor="lead")
        with workspace.session() as session:
            live = dump(session)
            assert all(live[name] for name in ("feedback_tasks", "feedback_labels", "feedback_merged", "feedback_skips"))
            store.rebuild(session)
        with workspace.session() as session:
            assert dump(session) == live


def test_events_without_an_effect_are_passed_over(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace, workspace.session() as session:
        before = dump(session)
        store.append(session, NewEvent(kind="prompt.refused", uuid="x", actor="server"))
        store.rebuild(session)
        assert dump(session) == before
