"""What an account's withdrawal reaches, what its owner and an administrator are told, and a restored database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from chat_server import ScriptedEngine, server_of
from chatwright.feedback import export as exporting
from chatwright.feedback import lineage, withdrawals
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.export import ExportFilter
from chatwright.feedback.projects import default_project
from chatwright.feedback.store import append
from chatwright.feedback.tables import LabelRow, Payload, TaskRow
from chatwright.feedback.tasks import Answer, NewTask, add_task
from chatwright.pipeline.comparison import Comparison
from chatwright.records import user
from chatwright.serve.arena.tables import ArenaVote, Battle
from chatwright.serve.auth_tables import ApiKey
from chatwright.serve.chat.tables import ChatPreferences
from chatwright.serve.desk import withdrawal
from chatwright.serve.moderation.tables import ModerationEvent
from workspaces import admin_of, member_of


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:  # type: ignore[misc]
    with server_of(tmp_path, ScriptedEngine("alpha", answer="x")) as made:
        yield made


@pytest.fixture
def admin(app: FastAPI) -> TestClient:
    return admin_of(app)


def owner_of(client: TestClient) -> str:
    return str(client.get("/api/session").json()["user_id"])


def gives(app: FastAPI, owner: str, text: str) -> str:
    """A text of an account in the store; the id of its task."""
    key = app.state.services.parts["intake"].key
    with app.state.services.workspace.session() as session:
        task = NewTask(
            project=default_project(session).id, kind="rank", messages=user(text), split="held_out", source="chat",
            answers=(Answer(text="a"), Answer(text="b")), subject=withdrawal.subjects_of(key, owner)[0],
        )  # fmt: skip
        return add_task(session, task, actor="server")


def trained(app: FastAPI) -> str:
    workspace = app.state.services.workspace
    frozen = exporting.export(workspace, ExportFilter(), actor="lead", out=workspace.folder.parent / "copy")
    folder = workspace.folder / "models" / "m" / "final"
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text("{}")
    with workspace.session() as session:
        lineage.register(session, name="m", path=folder, base="b", exports=[frozen.id], figures={}, actor="lead")
    return frozen.id


def live_texts(app: FastAPI) -> str:
    with app.state.services.workspace.reading() as session:
        return json.dumps([one for one in session.scalars(select(Payload.content)) if one is not None])


def test_what_remains_is_named_and_to_whom_it_may_be(app: FastAPI, admin: TestClient) -> None:
    mia = member_of(app, admin, "mia")
    mia.get("/api/consent")
    gives(app, owner_of(mia), "mia asks")
    frozen = trained(app)
    assert admin.get(f"/api/desk/exports/{frozen}/held_out/prompts").status_code == 200
    chat = mia.post("/api/conversations", json={}).json()["id"]
    mia.post(f"/api/conversations/{chat}/share")
    done = mia.post("/api/desk/withdrawals", json={}).json()
    assert (done["erased"], done["exports"], done["models"]) == (3, 1, 1)
    kinds = [one["kind"] for one in done["remains"]]
    assert kinds == ["model", "copy", "copy", "chats", "links"]
    assert done["remains"][0]["name"] == "m" and len(done["remains"][0]["version"]) == 12
    assert not any(one["by"] or "copy" in one["version"] for one in done["remains"])  # of others, no names
    told = mia.get("/api/consent").json()
    assert told["remains"] == done["remains"] and told["withdrawn_at"] > 0
    again = admin.post("/api/desk/withdrawals", json={"user": owner_of(mia)}).json()
    copies = [one for one in again["remains"] if one["kind"] == "copy"]
    assert {one["by"] for one in copies} == {"lead", owner_of(admin)}
    assert any(one["version"].endswith("/copy") for one in copies)
    (listed,) = admin.get("/api/desk/exports").json()
    assert listed["withdrawn"] == 1 and [one["kind"] for one in listed["copies"]] == ["folder", "download"]
    assert admin.get("/api/desk/models").json()["models"][0]["withdrawn"] == 1
    assert admin.get("/api/consent").json()["withdrawn_at"] is None


def test_imported_people_are_erased_by_administrators_and_accounts_reach_rows_under_their_id(
    app: FastAPI, admin: TestClient
) -> None:
    mia = member_of(app, admin, "mia")
    people = {"eve": "eve", "mia": owner_of(mia), "x": "mia"}
    rows = [{"prompt": f"{name} wrote this", "user": person} for name, person in people.items()]
    given = {"file": "p.jsonl", "rows": "\n".join(map(json.dumps, rows)), "labeller_kind": "human"}
    assert admin.post("/api/desk/import", json=given).json()["tasks"] == 3
    assert mia.post("/api/desk/withdrawals", json={"imported_user": "eve"}).status_code == 403
    both = {"imported_user": "eve", "user": owner_of(mia)}
    assert admin.post("/api/desk/withdrawals", json=both).status_code == 400
    assert mia.get("/api/consent").json()["kept_texts"] == 1
    assert mia.post("/api/desk/withdrawals", json={}).json()["erased"] == 1
    assert "mia wrote" not in live_texts(app) and "x wrote" in live_texts(app)  # a name is nobody's id
    assert admin.post("/api/desk/withdrawals", json={"imported_user": "eve"}).json()["erased"] == 1
    assert "eve wrote" not in live_texts(app)
    log = admin.get("/api/audit").text
    assert "content.withdraw" in log and '"eve"' not in log


def test_pairs_for_people_follow_the_person_whose_question_it_was(app: FastAPI, admin: TestClient, tmp_path: Path) -> None:
    mia = member_of(app, admin, "mia")
    mia.get("/api/consent")
    task = gives(app, owner_of(mia), "mia asks")
    messages = [{"role": "user", "content": "mia asks"}]
    row = {"messages": messages, "task": task, "completions": ["c"], "finish_reason": ["stop"]}
    for name in ("serving", "candidate"):
        (tmp_path / f"{name}-sampled.jsonl").write_text(json.dumps(row) + "\n")
    with app.state.services.workspace.session() as session:
        (made,) = Comparison(verdicts=[], folder=tmp_path).add_tasks(session, "", 1, actor="job")
    assert mia.post("/api/desk/withdrawals", json={}).json()["erased"] == 6
    assert live_texts(app) == "[]"
    with app.state.services.workspace.reading() as session:
        assert session.get_one(TaskRow, made).state == "closed"


def test_a_database_from_before_the_withdrawal_is_brought_up_to_it_at_the_start(app: FastAPI, admin: TestClient) -> None:
    mia = member_of(app, admin, "mia")
    mia.put("/api/consent", json={"training_consent": True})
    owner, workspace = owner_of(mia), app.state.services.workspace
    made = mia.post("/api/keys", json={"name": "k", "training_consent": True}).json()["id"]
    subject = withdrawal.subjects_of(app.state.services.parts["intake"].key, owner)[0]
    gives(app, owner, "mia asks")
    with workspace.session() as session:
        entrants = {side: {"id": side, "name": side, "model": side, "system": ""} for side in "ab"}
        session.add(Battle(id="b1", owner=owner, prompt="mia's question", answer_a="1", answer_b="2", entrants=entrants))
        session.flush()
        session.add(ArenaVote(battle_id="b1", user_id=owner, question="q", vote="a"))
        session.add(
            ModerationEvent(
                owner=owner, request_id="r", model="m", direction="input", category="c", score=1.0, action="flag",
                text_hash="h", text="mia's words",
            )
        )  # fmt: skip
    withdrawals.note(workspace, (subject,))  # what the restored database does not know
    assert withdrawal.apply_again(workspace) == 3 and live_texts(app) == "[]"
    with workspace.reading() as session:
        assert session.get_one(ChatPreferences, owner).training_consent is False
        assert session.get_one(ApiKey, made).training_consent is False
        assert session.get_one(Battle, "b1").prompt == "" and session.get_one(ArenaVote, "b1").void == "withdrawn"
        (flagged,) = session.scalars(select(ModerationEvent))
        assert (flagged.text, flagged.text_hash) == (None, "")
    # Consent and texts that come afterwards stay at the next start.
    mia.put("/api/consent", json={"training_consent": True})
    mia.patch(f"/api/keys/{made}", json={"training_consent": True})
    gives(app, owner, "mia agrees")
    assert withdrawal.apply_again(workspace) == 0 and "mia agrees" in live_texts(app)
    assert mia.get("/api/consent").json()["training_consent"] is True
    with workspace.reading() as session:
        assert session.get_one(ApiKey, made).training_consent is True


def test_labels_taken_back_mark_earlier_exports_and_are_left_out_of_later_ones(app: FastAPI, admin: TestClient) -> None:
    row = {"prompt": "q", "completions": ["one", "two"], "ranking": "A>B", "labeller_kind": "human"}
    given = {"file": "p.jsonl", "rows": json.dumps(row), "labeller_kind": "human"}
    assert admin.post("/api/desk/import", json=given).json()["labels"] == 1
    first = admin.post("/api/desk/exports", json={}).json()
    assert first["undone"] == 0
    with app.state.services.workspace.session() as session:
        (task,) = session.scalars(select(TaskRow))
        undo = {"label": session.scalars(select(LabelRow.uuid)).one()}
        event = NewEvent(
            kind="label.undone", uuid=new_uuid(), actor="lead", project=task.project_id, task=task.id, data=undo
        )  # fmt: skip
        append(session, event)
    marked = admin.get("/api/desk/exports").json()
    assert [(one["id"], one["undone"], one["withdrawn"]) for one in marked] == [(first["id"], 1, 0)]
    second = admin.post("/api/desk/exports", json={}).json()
    rows = sum(split["rankings"] for split in second["counts"].values())
    assert rows == 0 and second["undone"] == 0 and second["left_out"] == {"taken back by the labeller": 1}
