"""Deletion of accounts: what goes, what stays under a pseudonym, and who may do it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from starlette.testclient import TestClient

from chatwright.errors import UsageError
from chatwright.feedback import consent, store
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.tables import DraftRow, LabelEvent, Payload
from chatwright.serve.account_commands import DeleteConfig, ResetAdminConfig, delete_account, reset_admin
from chatwright.serve.app import create_app
from chatwright.serve.arena import store as arena
from chatwright.serve.arena.tables import ArenaVote, Battle
from chatwright.serve.auth_tables import ApiKey, Identity, LoginSession, User
from chatwright.serve.chat.tables import ChatPreferences, ConversationRow, FeedbackEvent, MessageRow, PromptEntry, Share
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.moderation.tables import ModerationEvent
from chatwright.serve.settings import ServeConfig
from workspaces import KINDS, PASSWORD, admin_of, browser, cheap_hashes, member_of, workspace_of

SECRET = "the wedding is on Tuesday"


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    cheap_hashes(monkeypatch)
    with workspace_of(request.param, tmp_path) as workspace:
        yield create_app(ServeConfig(), EngineRegistry(), workspace)


def id_of(client: TestClient) -> str:
    return str(client.get("/api/session").json()["user_id"])


def fill(app: FastAPI, user: str) -> None:
    """Something of everything that a person can own, with a text that nobody else has."""
    workspace = app.state.services.workspace
    subject = consent.subject_of(consent.subject_key(workspace.folder), user)
    with workspace.session() as session:
        session.add_all([
            Identity(issuer="https://login.example", subject=SECRET, user_id=user),
            ChatPreferences(user_id=user, training_consent=True),
            PromptEntry(owner=user, language="en", title="mine", text=SECRET),
            PromptEntry(owner=user, language="en", title="ours", text="Summarise {text}", shared=True),
            ModerationEvent(owner=user, request_id="r", model="m", direction="input", category="c", score=1.0, action="flag",
                            text_hash="h", text=SECRET),
            DraftRow(task_id="task_1", labeller=user, revision=1, content={"text": SECRET}, updated_at=1.0),
        ])  # fmt: skip
        row = ConversationRow(owner=user, title=SECRET)
        session.add(row)
        session.flush()
        first = MessageRow(conversation_id=row.id, place=0, role="user", content=SECRET)
        session.add(first)
        session.flush()
        answer = MessageRow(conversation_id=row.id, parent_id=first.id, place=1, role="assistant", content=SECRET)
        snapshot = {"title": SECRET, "messages": []}
        session.add_all([answer, Share(token_hash="t" * 43, expires_at=1e12, conversation_id=row.id, snapshot=snapshot)])
        session.flush()
        session.add(FeedbackEvent(message_id=answer.id, user_id=user, vote="up", comment=SECRET))
        sides = {side: {"id": side, "name": f"model {side}", "model": side, "system": ""} for side in "ab"}
        battle = Battle(owner=user, prompt=SECRET, entrants=sides, answer_a=SECRET, answer_b="b")
        session.add(battle)
        session.flush()
        session.add(ArenaVote(battle_id=battle.id, user_id=user, question=arena.question_of(battle), vote="a"))
        store.append(session, NewEvent(kind="consent.given", uuid=new_uuid(), actor=subject, subject=subject, data={}))
        session.add(Payload(id="payload_1", subject=subject, content={"text": SECRET}))


def texts(app: FastAPI) -> str:
    """Every value of every table."""
    from chatwright.serve.tables import metadata

    with app.state.services.workspace.reading() as session:
        return "\n".join(str(row) for table in metadata().sorted_tables for row in session.execute(select(table)))


def count(app: FastAPI, what: type) -> int:
    with app.state.services.workspace.reading() as session:
        return session.scalar(select(func.count()).select_from(what)) or 0


def test_what_is_the_persons_goes_and_labels_stay_under_a_pseudonym(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada-lovelace", "labeller")
    bob = member_of(app, admin, "bob")
    user = id_of(ada)
    key = ada.post("/api/keys", json={"name": "laptop"}).json()["key"]
    bob.post("/api/keys", json={"name": "bob's"})
    reset = admin.post(f"/api/users/{user}/reset").json()["url"].partition("#")[2]
    fill(app, user)
    with app.state.services.workspace.session() as session:
        session.add(LabelEvent(uuid=new_uuid(), kind="task.skipped", actor=user, task_id="task_1"))
        session.flush()
        labels = session.scalars(select(LabelEvent.actor).where(LabelEvent.actor == user)).all()
    assert SECRET in texts(app) and len(labels) == 1
    assert bob.delete(f"/api/users/{user}").status_code == 403
    assert admin.delete(f"/api/users/{user}", headers={"x-csrf-token": ""}).status_code == 403
    assert admin.delete(f"/api/users/{user}").status_code == 204
    left = texts(app)
    assert SECRET not in left and "ada-lovelace" not in left
    assert ada.get("/api/session").json()["signed_in"] is False and ada.get("/api/keys").status_code == 401
    assert browser(app).get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 401
    assert browser(app).post("/api/links/look", json={"token": reset}).status_code == 404
    assert browser(app).post("/api/session", json={"name": f"deleted-{user[-12:]}", "password": PASSWORD}).status_code == 401
    kept = {table: count(app, table) for table in (ApiKey, Identity, ConversationRow, MessageRow, Share, DraftRow)}
    assert kept == {ApiKey: 1, Identity: 0, ConversationRow: 0, MessageRow: 0, Share: 0, DraftRow: 0}
    assert [row["name"] for row in admin.get("/api/users").json()] == ["bob", "root"]
    # labels refer to a pseudonym, which the leads' pages show
    assert {"id": user, "name": f"deleted-{user[-12:]}"} in admin.get("/api/desk/people").json()
    with app.state.services.workspace.reading() as session:
        assert session.scalar(select(func.count()).where(LabelEvent.actor == user)) == 1
        assert session.scalars(select(PromptEntry.title)).all() == ["ours"]
        assert arena.counted(session) == ([], 1)
        assert session.scalar(select(User.password_hash).where(User.id == user)) is None
    entry = next(row for row in admin.get("/api/audit").json() if row["action"] == "user.delete")
    assert (entry["actor"], entry["target"], entry["detail"]) == (id_of(admin), user, {"texts": 1})
    # the account is no account any more
    assert admin.delete(f"/api/users/{user}").status_code == 404
    assert admin.patch(f"/api/users/{user}", json={"disabled": False}).status_code == 404
    assert admin.post(f"/api/users/{user}/reset").status_code == 404
    assert member_of(app, admin, "ada-lovelace").get("/api/session").json()["name"] == "ada-lovelace"  # the name is free


def test_the_last_administrator_stays(app: FastAPI) -> None:
    admin = admin_of(app)
    root = id_of(admin)
    assert admin.delete(f"/api/users/{root}").json()["error"]["code"] == "last_admin"
    assert admin.post("/api/account/delete", json={"password": PASSWORD}).status_code == 409
    assert admin.get("/api/keys").status_code == 200  # and nothing of it has happened
    second = member_of(app, admin, "second", "admin")
    admin.patch(f"/api/users/{id_of(second)}", json={"disabled": True})
    assert admin.delete(f"/api/users/{root}").status_code == 409  # a disabled one is none
    admin.patch(f"/api/users/{id_of_name(admin, 'second')}", json={"disabled": False})
    assert admin.delete(f"/api/users/{root}").status_code == 204
    assert admin.get("/api/keys").status_code == 401


def id_of_name(admin: TestClient, name: str) -> str:
    return next(row["id"] for row in admin.get("/api/users").json() if row["name"] == name)


def test_people_delete_their_own_account_with_the_password(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    for password in ("", "wrong"):
        assert ada.post("/api/account/delete", json={"password": password}).status_code == 401
    assert browser(app).post("/api/account/delete", json={"password": PASSWORD}).status_code == 401
    gone = ada.post("/api/account/delete", json={"password": PASSWORD})
    assert gone.status_code == 204 and "Max-Age=0" in gone.headers["set-cookie"]
    assert [row["name"] for row in admin.get("/api/users").json()] == ["root"]
    assert count(app, LoginSession) == 1
    with app.state.services.workspace.session() as session:  # an account of a provider has no password
        session.add(User(id="user_" + "1" * 32, name="eve", role="member", password_hash=None))
    assert admin.delete("/api/users/user_" + "1" * 32).status_code == 204


def test_the_command_deletes_only_with_yes(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    admin = admin_of(app)
    user = id_of(member_of(app, admin, "ada"))
    fill(app, user)
    workspace = app.state.services.workspace
    where = {
        "workspace": str(workspace.folder),
        "database": "" if workspace.is_sqlite else workspace.engine.url.render_as_string(hide_password=False),
    }
    delete_account(DeleteConfig(name="Ada", **where))
    assert "its 1 chats and 0 keys" in capsys.readouterr().out and SECRET in texts(app)
    delete_account(DeleteConfig(name="ada", yes=True, **where))
    assert f"deleted-{user[-12:]}" in capsys.readouterr().out and SECRET not in texts(app)
    for name in ("ada", f"deleted-{user[-12:]}"):
        with pytest.raises(UsageError, match="no such account; known: root"):
            delete_account(DeleteConfig(name=name, yes=True, **where))
    with pytest.raises(UsageError, match="no such account"):
        reset_admin(ResetAdminConfig(name=f"deleted-{user[-12:]}", **where))
    with pytest.raises(UsageError, match="last administrator"):
        delete_account(DeleteConfig(name="root", yes=True, **where))
    assert admin.get("/api/keys").status_code == 200
