"""The audit log: what is in it, what strangers cannot do to it, its age and its export."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from chat_server import ScriptedEngine
from chatwright.errors import ConfigError, UsageError
from chatwright.serve import audit_bounds
from chatwright.serve.app import create_app
from chatwright.serve.audit_bounds import MAX_GROUPS, Reads, Refusals
from chatwright.serve.audit_commands import AuditConfig, export
from chatwright.serve.auth_tables import ApiKey, AuditEvent
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.keys import keep_bootstrap_key
from chatwright.serve.retention import Housekeeper, prune
from chatwright.serve.settings import ServeConfig
from workspaces import KINDS, ORIGIN, PASSWORD, admin_of, browser, cheap_hashes, member_of, workspace_of


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    cheap_hashes(monkeypatch)
    registry = EngineRegistry()
    registry.add(ScriptedEngine("small"))
    with workspace_of(request.param, tmp_path) as workspace:
        yield create_app(ServeConfig(), registry, workspace)


def entries(app: FastAPI, action: str = "") -> list[AuditEvent]:
    with app.state.services.workspace.reading() as session:
        query = select(AuditEvent).order_by(AuditEvent.id)
        return list(session.scalars(query.where(AuditEvent.action == action) if action else query))


def with_key(client: TestClient, key: str) -> int:
    return client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code


def stranger(app: FastAPI, address: str) -> TestClient:
    return TestClient(app, base_url=ORIGIN, raise_server_exceptions=False, client=(address, 4711))


def test_strangers_keys_are_counted_and_do_not_fill_the_log(app: FastAPI) -> None:
    admin_of(app)
    one = stranger(app, "192.0.2.7")
    assert {with_key(one, f"cw-invented-{n}") for n in range(50)} == {401}
    assert one.get("/v1/models").status_code == 401  # without any key: no attempt
    for n in range(MAX_GROUPS + 60):
        with_key(stranger(app, f"198.51.{n // 250}.{n % 250 + 1}"), "cw-invented")
    rows = entries(app, "key.refused")
    assert len(rows) == MAX_GROUPS + 1  # networks, and all others together
    assert (rows[0].address, rows[0].detail) == ("192.0.2.7", {"reason": "unknown"})
    assert rows[-1].address == "" and rows[-1].detail == {"several": True}
    audit_bounds.write(app.state.services.workspace, app.state.services.refusals.due(everything=True))
    counted = entries(app, "key.refused")[len(rows) :]
    assert [(row.address, row.detail["more_attempts"]) for row in counted] == [("192.0.2.7", 49), ("", 60)]


def test_refused_keys_that_exist_are_named(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    user = ada.get("/api/session").json()["user_id"]
    made = [ada.post("/api/keys", json={"name": str(n), "scopes": ["embeddings"]}).json() for n in range(3)]
    ada.delete(f"/api/keys/{made[0]['id']}")
    with app.state.services.workspace.session() as session:
        session.execute(update(ApiKey).where(ApiKey.id == made[1]["id"]).values(expires_at=1.0))
    for key in made:
        with_key(browser(app), key["key"])
    admin.patch(f"/api/users/{user}", json={"disabled": True})
    with_key(stranger(app, "192.0.2.9"), made[2]["key"])
    rows = [(row.actor, row.target, row.detail["reason"]) for row in entries(app, "key.refused")]
    assert rows == [
        (user, made[0]["id"], "revoked"), (user, made[1]["id"], "expired"), (user, made[2]["id"], "scope"),
        (user, made[2]["id"], "account disabled"),
    ]  # fmt: skip
    assert not any(key["key"] in str(row.detail) for row in entries(app) for key in made)


def test_wrong_passwords_are_counted_by_network(app: FastAPI) -> None:
    admin_of(app)
    for _ in range(4):
        browser(app).post("/api/session", json={"name": "root", "password": "wrong"})
        browser(app).post("/api/session", json={"name": "nobody", "password": "wrong"})
    assert len(entries(app, "login.refused")) == 2
    assert browser(app).post("/api/session", json={"name": "root", "password": PASSWORD}).status_code == 200


def test_a_window_ends_by_the_clock() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    take = lambda: refusals.take("key.refused", "", "", "2001:db8::1", {"reason": "unknown"})  # noqa: E731
    assert len(take()) == 1 and take() == [] and refusals.due() == []
    now = 3600.0
    first, second = take()  # the hour before, and a new first one
    assert first["detail"] == {"reason": "unknown", "more_attempts": 1} and "more_attempts" not in second["detail"]
    assert refusals.due(everything=True) == [] and len(refusals._groups) == 0
    reads = Reads(lambda: now)
    assert reads.is_new("a", "b") and not reads.is_new("a", "b") and reads.is_new("a", "c")
    now += 600
    assert reads.is_new("a", "b")


def test_a_refusal_does_not_need_the_log(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(type(app.state.services.workspace), "session", busy)
    assert with_key(browser(app), "cw-invented") == 401


def test_chats_prompts_entrants_and_reading_are_in_the_log(app: FastAPI) -> None:
    admin = admin_of(app)
    chat = admin.post("/api/conversations", json={}).json()["id"]
    admin.get(f"/api/conversations/{chat}/export")
    assert admin.delete(f"/api/conversations/{chat}").status_code == 204
    admin.delete("/api/conversations")
    prompt = {"title": "t", "text": "Hello", "language": "en", "shared": False}
    own = admin.post("/api/prompts", json=prompt).json()["id"]
    admin.put(f"/api/prompts/{own}", json=prompt)  # private: nobody's concern
    admin.put(f"/api/prompts/{own}", json=prompt | {"shared": True})
    admin.put(f"/api/prompts/{own}", json=prompt)
    admin.delete(f"/api/prompts/{own}")
    entrant = admin.post("/api/arena/entrants", json={"name": "variant", "model": "small", "system": "Be brief."})
    assert entrant.status_code == 201, entrant.text
    admin.delete(f"/api/arena/entrants/{entrant.json()['id']}")
    admin.get("/api/arena/export")
    for _ in range(3):
        admin.get("/api/moderation/events")
        admin.get("/api/desk/browse", params={"project": "p"})
    admin.put("/api/preferences", json={"training_consent": True})
    told = [(row.action, row.target) for row in entries(app)][1:]
    assert told == [
        ("chat.export", chat), ("chat.delete", chat), ("chats.delete_all", admin.get("/api/session").json()["user_id"]),
        ("prompt.share", own), ("prompt.unshare", own), ("prompt.delete", own), ("entrant.add", entrant.json()["id"]),
        ("entrant.remove", entrant.json()["id"]), ("arena.export", ""), ("flagged.read", ""), ("texts.read", "p"),
        ("consent.change", admin.get("/api/session").json()["user_id"]),
    ]  # fmt: skip
    assert "Be brief" not in str([row.detail for row in entries(app)])
    member = member_of(app, admin, "ada")
    assert member.get("/api/desk/browse").status_code == 403 and member.get("/api/audit/export").status_code == 403
    assert len(entries(app, "texts.read")) == 1


def aged(app: FastAPI, days: float) -> None:
    with app.state.services.workspace.session() as session:
        session.execute(update(AuditEvent).values(at=AuditEvent.at - days * 86_400))


def test_old_entries_go_and_a_revoked_server_key_stays_revoked(app: FastAPI) -> None:
    workspace = app.state.services.workspace
    admin = admin_of(app)
    keep_bootstrap_key(workspace, "cw-the-servers-own-key")
    own = next(row["id"] for row in admin.get("/api/keys?everyone=true").json() if row["user_id"] is None)
    admin.delete(f"/api/keys/{own}")
    made = admin.post("/api/keys", json={"name": "mine"}).json()["id"]
    admin.delete(f"/api/keys/{made}")
    aged(app, 100)
    assert prune(workspace, 0) == 0 and prune(workspace, 101) == 0
    admin.post("/api/invites", json={})
    assert prune(workspace, 99) == 3  # the link's use, the making and the revocation of the personal key
    assert [row.action for row in entries(app)] == ["key.revoke", "invite", "audit.prune"]
    assert prune(workspace, 99) == 0 and len(entries(app)) == 3
    keep_bootstrap_key(workspace, "cw-the-servers-own-key")
    assert with_key(browser(app), "cw-the-servers-own-key") == 401
    with pytest.raises(ConfigError, match="audit_days"):
        ServeConfig(audit_days=-1)


def test_the_log_is_exported_whole(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatwright.serve.audit_export.PAGE", 3)
    admin = admin_of(app)
    with app.state.services.workspace.session() as session:
        fields = {"actor": "=1+1", "action": "test", "target": '中文,"x"'}
        session.add_all(AuditEvent(at=1000.0 + n, detail={"n": n}, **fields) for n in range(8))
    lines = [json.loads(line) for line in admin.get("/api/audit/export").text.splitlines()]
    assert [row["id"] for row in lines] == sorted(row["id"] for row in lines)
    assert [row["detail"]["n"] for row in lines if row["action"] == "test"] == list(range(8))
    assert lines[-1]["action"] == "audit.export" and lines[-1]["actor"] == admin.get("/api/session").json()["user_id"]
    some = admin.get("/api/audit/export", params={"since": 1002, "until": 1004}).text.splitlines()
    assert [json.loads(line)["time"] for line in some] == ["1970-01-01T00:16:42Z", "1970-01-01T00:16:43Z"]
    table = admin.get("/api/audit/export", params={"format": "csv", "until": 2000})
    assert "attachment" in table.headers["content-disposition"] and table.content.startswith("\ufeff".encode())
    rows = list(csv.DictReader(io.StringIO(table.text.lstrip("\ufeff"))))
    assert len(rows) == 8 and rows[0]["target"] == "中文,\"x\"" and rows[0]["actor"] == "'=1+1"
    for wrong in ({"format": "xml"}, {"since": "nan"}, {"until": -1}):
        assert admin.get("/api/audit/export", params=wrong).status_code == 400  # type: ignore[arg-type]


def test_the_command_writes_a_private_file(app: FastAPI, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    admin_of(app)
    workspace = app.state.services.workspace
    where: dict[str, Any] = {
        "workspace": str(workspace.folder),
        "database": "" if workspace.is_sqlite else workspace.engine.url.render_as_string(hide_password=False),
    }
    export(AuditConfig(**where))
    assert json.loads(capsys.readouterr().out)["action"] == "link.admin"
    out = tmp_path / "audit.csv"
    export(AuditConfig(out=str(out), format="csv", since="2020-01-01", until="2999-12-31", **where))
    assert "link.admin" in out.read_text(encoding="utf-8-sig") and stat.S_IMODE(out.stat().st_mode) == 0o600
    for wrong, why in (
        ({"out": str(out)}, "exists already"), ({"out": str(tmp_path / "no" / "x")}, "cannot be written"),
        ({"since": "yesterday"}, "must be a day"), ({"workspace": str(tmp_path / "none")}, "no such workspace"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=why):
            export(AuditConfig(**(where | wrong)))
    with workspace.reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 1


def test_the_housekeeper_writes_what_it_counted_at_its_end(app: FastAPI) -> None:
    keeper = Housekeeper(app.state.services)
    keeper.start()
    for _ in range(3):
        with_key(browser(app), "cw-invented")
    keeper.stop()
    assert [row.detail for row in entries(app, "key.refused")] == [
        {"reason": "unknown"}, {"reason": "unknown", "more_attempts": 2},
    ]  # fmt: skip
