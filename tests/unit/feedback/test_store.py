from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from chatwright.errors import ConflictError, DataError
from chatwright.feedback import labels, queue, read, store
from chatwright.feedback.events import NewEvent
from chatwright.feedback.tables import DraftRow, LabelEvent, Payload, TaskRow
from desk_data import label, project, task
from workspaces import KINDS, workspace_of


def event(uuid: str = "one", **fields: object) -> NewEvent:
    given: dict[str, object] = {"kind": "prompt.taken_in", "actor": "ada", "data": {"n": 1}, "payload": {"text": "hi 你好"}}
    return NewEvent(uuid=uuid, **{**given, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_written_once_whoever_reports_it_again(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            first = store.append(session, event())
        with workspace.session() as session:
            again = store.append(session, event(data={"n": 1}))
            assert (again.id, again.payload_id) == (first.id, first.payload_id)
            assert store.content(session, again.payload_id) == {"text": "hi 你好"}
        for other in ({"data": {"n": 2}}, {"payload": {"text": "no"}}, {"payload": None}, {"actor": "bob"}, {"task": "t"}):
            with pytest.raises(ConflictError, match="uuid one"), workspace.session() as session:
                store.append(session, event(**other))
        with workspace.reading() as session:
            assert len(session.scalars(select(LabelEvent)).all()) == len(session.scalars(select(Payload)).all()) == 1


CHANGES = {
    "update": "UPDATE label_events SET actor = 'eve'",
    "delete": "DELETE FROM label_events",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_database_refuses_to_change_events(kind: str, change: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            store.append(session, event())
        with pytest.raises(DBAPIError, match="append-only"), workspace.session() as session:
            session.execute(text(CHANGES[change]))
        other = {
            "sqlite": "INSERT OR REPLACE INTO label_events SELECT id, uuid, 'x.y', at, 'eve', actor_kind, project_id, "
            "task_id, guideline_id, data, payload_id, subject FROM label_events",
            "postgresql": "TRUNCATE label_events",
        }[kind]
        with pytest.raises(DBAPIError, match="append-only"), workspace.session() as session:
            session.execute(text(other))
        with workspace.reading() as session:
            assert [one.actor for one in session.scalars(select(LabelEvent))] == ["ada"]


@pytest.mark.parametrize(
    "fields",
    [
        {"data": {"x": float("nan")}}, {"payload": {"x": {1, 2}}}, {"data": {"x": "\ud800"}}, {"kind": "nonsense"},
        {"uuid": ""}, {"uuid": "a b"}, {"uuid": "x" * 65}, {"actor_kind": "alien"},
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused(fields: dict[str, object], tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace, workspace.session() as session, pytest.raises(DataError):
        store.append(session, event(**fields))


@pytest.mark.parametrize("kind", KINDS)
def test_a_withdrawal_erases_what_hangs_on_a_person_and_nothing_else(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            desk = project(session)
            mine = task(session, desk, "demonstrate", text="my secret", subject="hash-of-ada")
            other = task(session, desk, "demonstrate", text="another", subject="hash-of-bob")
            for one in (mine, other):
                label(session, one, "ann", payload={"messages": [{"role": "assistant", "content": "secret answer"}]})
            waiting = task(session, desk, "rank", text="my secret", subject="hash-of-ada")
            queue.claim(session, "ann", kinds=["rank"])
            session.add(DraftRow(task_id=waiting, labeller="ann", revision=1, content={"comment": "secret"}, updated_at=0.0))
        with workspace.session() as session:
            assert store.erase(session, "hash-of-ada", actor="ada") == 6  # two prompts, three answers, a demonstration
            assert store.erase(session, "hash-of-ada", actor="ada") == 0
        with workspace.session() as session:
            kept = [*session.scalars(select(Payload.content)), *session.scalars(select(DraftRow.content))]
            everything = str(kept)
            assert "my secret" not in everything and "another" in everything and everything.count("secret answer") == 1
            view = read.task_view(session, mine)
            assert view.erased and view.messages == () and view.labels[0].payload is None and view.row.state == "closed"
            assert not read.task_view(session, other).erased
            assert queue.claim(session, "bob", kinds=["rank", "demonstrate"]) is None
            tombstone, _ = session.scalars(select(LabelEvent).where(LabelEvent.kind == "content.withdrawn"))
            assert set(tombstone.data["tasks"]) == {mine, waiting} and len(tombstone.data["payloads"]) == 6
            with pytest.raises(ConflictError, match="withdrawn"):
                late = labels.Submission(uuid="late", task=waiting, labeller="ann", value={"ranking": "A>B>C"})
                labels.submit(session, late)
            before = [(row.id, row.state) for row in session.scalars(select(TaskRow).order_by(TaskRow.id))]
            store.rebuild(session)
            assert [(row.id, row.state) for row in session.scalars(select(TaskRow).order_by(TaskRow.id))] == before


def test_erased_text_is_not_left_in_the_file(tmp_path: Path) -> None:
    secret = "a very particular sentence of Ada"
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.session() as session:
            task(session, project(session), text=secret, subject="ada")
        with workspace.session() as session:
            store.erase(session, "ada", actor="ada")
        store.scrub(workspace)
        files = [path for path in workspace.folder.iterdir() if path.is_file()]
        assert files and all(secret.encode() not in path.read_bytes() for path in files)
