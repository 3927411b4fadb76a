"""Own password and sessions, the way back in for an administrator, and what cannot lock people out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from chatwright.errors import ChatwrightError, ConfigError, UsageError
from chatwright.serve import limits, links
from chatwright.serve.account_commands import LinksConfig, ResetAdminConfig, list_links, reset_admin
from chatwright.serve.address import network_of
from chatwright.serve.app import create_app
from chatwright.serve.auth import digest
from chatwright.serve.auth_tables import LoginSession
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from workspaces import KINDS, ORIGIN, PASSWORD, admin_of, browser, cheap_hashes, member_of, workspace_of

NEW = "a much better password"


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """A server behind a proxy; its throttle's clock stands still, and its hashes are cheap."""
    cheap_hashes(monkeypatch)
    with workspace_of(request.param, tmp_path) as workspace:
        app = create_app(ServeConfig(trusted_proxy=("10.0.0.0/8", "fd00::/8")), EngineRegistry(), workspace)
        app.state.services = replace(app.state.services, throttle=limits.Throttle(lambda: 0.0))
        yield app


def attempt(client: TestClient, name: str, password: str, forwarded: str = "") -> int:
    headers = {"x-forwarded-for": forwarded} if forwarded else {}
    return client.post("/api/session", json={"name": name, "password": password}, headers=headers).status_code


def proxied(app: FastAPI, peer: str = "10.0.0.7") -> TestClient:
    """A browser whose requests come from `peer`."""
    return TestClient(app, base_url=ORIGIN, raise_server_exceptions=False, client=(peer, 4711))


def test_a_new_password_ends_other_sessions_links_and_devices(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    other = browser(app)
    assert attempt(other, "ada", PASSWORD) == 200
    user = ada.get("/api/session").json()["user_id"]
    link = admin.post(f"/api/users/{user}/reset").json()["url"].partition("#")[2]
    assert ada.post("/api/password", json={"old": "wrong", "new": NEW}).json()["error"]["param"] == "old"
    assert ada.post("/api/password", json={"old": PASSWORD, "new": "short"}).status_code == 400
    assert ada.post("/api/password", json={"old": PASSWORD, "new": NEW}, headers={"x-csrf-token": ""}).status_code == 403
    assert other.get("/api/keys").status_code == 200  # nothing has happened yet
    assert ada.post("/api/password", json={"old": PASSWORD, "new": NEW}).status_code == 204
    assert ada.get("/api/keys").status_code == 200 and other.get("/api/keys").status_code == 401
    assert browser(app).post("/api/links/redeem", json={"token": link, "password": "x" * 9}).status_code == 404
    assert [attempt(browser(app), "ada", each) for each in (PASSWORD, NEW)] == [401, 200]


def test_the_old_password_cannot_be_guessed_with_a_stolen_session(app: FastAPI) -> None:
    ada = member_of(app, admin_of(app), "ada")
    guesses = [ada.post("/api/password", json={"old": f"guess {n}", "new": NEW}).status_code for n in range(12)]
    assert set(guesses[:5]) == {401} and guesses[-1] == 429


def test_people_see_and_end_their_sessions_only(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    others = [browser(app) for _ in range(2)]
    assert [attempt(other, "ada", PASSWORD) for other in others] == [200, 200]
    rows = ada.get("/api/sessions").json()
    assert len(rows) == 3 and [row["current"] for row in rows].count(True) == 1
    assert ada.cookies["chatwright_session"] not in str(rows)
    foreign = admin.get("/api/sessions").json()[0]["id"]
    for wrong in (foreign, "", "%", "x" * 16, rows[0]["id"][:3]):
        assert ada.delete(f"/api/sessions/{wrong}").status_code in (404, 405), wrong
    assert admin.get("/api/keys").status_code == 200
    one = next(row["id"] for row in rows if not row["current"])
    assert ada.delete(f"/api/sessions/{one}").status_code == 204
    assert sorted(other.get("/api/keys").status_code for other in others) == [200, 401]
    assert ada.delete("/api/sessions/others").status_code == 204
    assert [other.get("/api/keys").status_code for other in others] == [401, 401]
    assert ada.get("/api/keys").status_code == 200


def test_people_behind_a_proxy_are_told_apart(app: FastAPI) -> None:
    admin_of(app)
    client = proxied(app)
    attacker = [attempt(client, f"name{n}", "wrong", "203.0.113.9") for n in range(31)]
    assert attacker[-1] == 429
    assert attempt(client, "root", PASSWORD, "198.51.100.4") == 200
    # A forged entry is to the left of what the proxy adds, and does not count.
    assert attempt(proxied(app), "root", PASSWORD, "198.51.100.5, 203.0.113.9") == 429
    assert attempt(proxied(app), "root", PASSWORD, "198.51.100.6, 10.3.3.3") == 200  # two trusted proxies


def test_a_client_that_is_no_trusted_proxy_chooses_no_address(app: FastAPI) -> None:
    admin_of(app)
    client = proxied(app, "192.0.2.1")
    assert [attempt(client, f"n{n}", "wrong", f"198.51.100.{n}") for n in range(31)][-1] == 429


@pytest.mark.parametrize("garbage", ["x" * 4000, "999.1.1.1", "unknown", "203.0.113.9%\u00e9", "[::1", ", ,"])
def test_forwarded_garbage_is_no_address(app: FastAPI, garbage: str) -> None:
    admin = admin_of(app)
    client = proxied(app)
    assert client.post(
        "/api/session", json={"name": "root", "password": PASSWORD}, headers={"x-forwarded-for": garbage.encode()}
    ).status_code == 200  # fmt: skip
    assert admin.get("/api/audit").json()[0]["address"] in ("", "10.0.0.7", "203.0.113.9")


def test_hosts_of_one_ipv6_network_share_a_limit() -> None:
    assert network_of("2001:db8:1:2:3::1") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network_of("192.0.2.1") == "192.0.2.1" and network_of("") == ""


def test_the_audit_log_keeps_the_clients_address(app: FastAPI) -> None:
    admin = admin_of(app)
    assert attempt(proxied(app), "root", PASSWORD, "::ffff:198.51.100.4") == 200
    assert admin.get("/api/audit").json()[0]["address"] == "198.51.100.4"


def test_others_cannot_lock_a_known_browser_out(app: FastAPI) -> None:
    admin_of(app)
    known = proxied(app)
    assert attempt(known, "root", PASSWORD, "198.51.100.4") == 200
    attackers = [attempt(browser(app), "root", "wrong", "") for _ in range(6)]
    assert attackers[-1] == 429
    anywhere = proxied(app)
    assert [attempt(anywhere, "root", "wrong", f"192.0.2.{n}") for n in range(50)][-1] == 429
    assert attempt(proxied(app), "root", PASSWORD, "198.51.100.4") == 429  # a browser that nobody knows
    known.cookies.delete("chatwright_session")
    assert attempt(known, "root", PASSWORD, "198.51.100.4") == 200
    # The cookie is bound to the account, and gives only as many guesses as a browser gets.
    assert attempt(known, "other", PASSWORD, "198.51.100.4") in (401, 429)
    assert [attempt(known, "root", "wrong", "198.51.100.4") for _ in range(11)][-1] == 429


def test_right_passwords_use_no_attempts_up(app: FastAPI) -> None:
    admin_of(app)
    assert {attempt(proxied(app), "root", PASSWORD, "198.51.100.4") for _ in range(40)} == {200}


def test_an_attempt_that_is_given_back_does_not_overfill() -> None:
    clock = iter(range(1000)).__next__
    throttle = limits.Throttle(lambda: clock() * 1e-6)
    for _ in range(100):
        throttle.attempt("a", "1.2.3.4")
        throttle.succeeded("a", "1.2.3.4")
    for _ in range(5):
        throttle.attempt("a", "1.2.3.4")
    with pytest.raises(ChatwrightError):
        throttle.attempt("a", "1.2.3.4")


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "proxy", "*", ""])
def test_trusted_proxies_are_networks(wrong: str) -> None:
    with pytest.raises(ConfigError, match="trusted_proxy"):
        ServeConfig(trusted_proxy=(wrong,))


def test_a_proxied_server_is_not_this_machines_only() -> None:
    assert ServeConfig().loopback and not ServeConfig(trusted_proxy=("127.0.0.1",)).loopback  # /metrics needs a key then


def test_an_only_administrator_gets_back_in(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = app.state.services.workspace
    where = {"workspace": str(workspace.folder), "database": workspace.engine.url.render_as_string(hide_password=False)}
    admin = admin_of(app)
    reset_admin(ResetAdminConfig(**where, url="https://chat.example.org/"))
    said = capsys.readouterr().out
    assert "'root'" in said and "https://chat.example.org/join#" in said
    token = said.partition("#")[2].split()[0]
    client = browser(app)
    assert client.post("/api/links/redeem", json={"token": token, "password": NEW}).json()["role"] == "admin"
    assert admin.get("/api/users").status_code == 401
    assert "user.reset_admin" in [row["action"] for row in client.get("/api/audit").json()]
    client.headers["x-csrf-token"] = client.get("/api/session").json()["csrf"]
    member_of(app, client, "ada")
    reset_admin(ResetAdminConfig(**where, name="Ada"))  # made an administrator by who owns the machine
    token = capsys.readouterr().out.partition("#")[2].split()[0]
    assert browser(app).post("/api/links/redeem", json={"token": token, "password": NEW}).json()["role"] == "admin"
    with pytest.raises(UsageError, match="--name: ada, root"):
        reset_admin(ResetAdminConfig(**where))
    for wrong in ("grace", "", "\u202e"):
        with pytest.raises(UsageError):
            reset_admin(ResetAdminConfig(**where, name=wrong))


def test_a_workspace_without_administrators_gets_the_first_link(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = app.state.services.workspace
    url = workspace.engine.url.render_as_string(hide_password=False)
    reset_admin(ResetAdminConfig(workspace=str(workspace.folder), database=url))
    token = capsys.readouterr().out.partition("#")[2].split()[0]
    used = browser(app).post("/api/links/redeem", json={"token": token, "name": "root", "password": NEW})
    assert used.json()["role"] == "admin"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such workspace"):
        reset_admin(ResetAdminConfig(workspace=str(tmp_path / "typo")))
    assert not (tmp_path / "typo").exists()


def test_open_links_are_listed_and_revoked(app: FastAPI, capsys: pytest.CaptureFixture[str]) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    user = ada.get("/api/session").json()["user_id"]
    invited, other = (admin.post("/api/invites", json={"role": "lead"}).json()["url"].partition("#")[2] for _ in range(2))
    admin.post(f"/api/users/{user}/reset")
    assert ada.get("/api/links").status_code == 403
    rows = admin.get("/api/links").json()
    assert [(row["kind"], row["role"], row["name"]) for row in rows] == [
        ("reset", "member", "ada"), ("invite", "lead", ""), ("invite", "lead", ""),
    ]  # fmt: skip
    assert all(len(row["id"]) == links.ID_LENGTH and row["expires_at"] > row["created_at"] for row in rows)
    assert not any(secret in str(rows) for secret in (invited, other))
    assert ada.delete(f"/api/links/{rows[1]['id']}").status_code == 403
    for wrong in ("", "%25", rows[1]["id"][:-1], rows[1]["id"] + "0", "_" * links.ID_LENGTH):
        assert admin.delete(f"/api/links/{wrong}").status_code in (404, 405)
    wanted = digest(other)[: links.ID_LENGTH]
    assert admin.delete(f"/api/links/{wanted}").status_code == 204
    assert admin.delete(f"/api/links/{wanted}").status_code == 404
    use = {"name": "bob", "password": PASSWORD}
    assert browser(app).post("/api/links/redeem", json={"token": other, **use}).status_code == 404
    assert admin.get("/api/audit").json()[0]["action"] == "link.revoke"
    # the same on the server's machine
    workspace = app.state.services.workspace
    url = "" if workspace.is_sqlite else workspace.engine.url.render_as_string(hide_password=False)
    cfg = LinksConfig(workspace=str(workspace.folder), database=url)
    list_links(cfg)
    shown = capsys.readouterr().out
    assert "new lead" in shown and "new password of 'ada'" in shown and invited not in shown
    list_links(replace(cfg, revoke=digest(invited)[: links.ID_LENGTH]))
    assert browser(app).post("/api/links/redeem", json={"token": invited, **use}).status_code == 404
    with pytest.raises(UsageError, match="no such link"):
        list_links(replace(cfg, revoke="x"))
    assert [row["kind"] for row in admin.get("/api/links").json()] == ["reset"]


def aged(app: FastAPI, hours: float) -> None:
    """Let every session's last request be so long ago."""
    with app.state.services.workspace.session() as session:
        for row in session.scalars(select(LoginSession)):
            row.last_used_at -= hours * 3600
            row.created_at -= hours * 3600


def test_a_session_ends_after_a_time_without_requests(app: FastAPI) -> None:
    admin = admin_of(app)
    aged(app, 71)
    assert admin.get("/api/keys").status_code == 200  # and this counts as a use
    aged(app, 71)
    assert admin.get("/api/keys").status_code == 200 and len(admin.get("/api/sessions").json()) == 1
    other = browser(app)
    attempt(other, "root", PASSWORD)
    with app.state.services.workspace.session() as session:
        session.execute(update(LoginSession).values(last_used_at=0.0))  # as an older version left it
    assert other.get("/api/keys").status_code == 200
    aged(app, 73)
    assert admin.get("/api/keys").status_code == 401 and other.get("/api/session").json()["signed_in"] is False
    again = browser(app)
    assert attempt(again, "root", PASSWORD) == 200  # sessions that have ended go
    with app.state.services.workspace.reading() as session:
        assert session.scalar(select(func.count()).select_from(LoginSession)) == 1
    assert [row["current"] for row in again.get("/api/sessions").json()] == [True]


def test_without_an_idle_end_the_absolute_one_holds(app: FastAPI) -> None:
    app.state.services = replace(app.state.services, settings=replace(app.state.services.settings, session_idle_hours=0.0))
    admin = admin_of(app)
    aged(app, 13 * 24)
    assert admin.get("/api/keys").status_code == 200
    with app.state.services.workspace.session() as session:
        session.execute(update(LoginSession).values(expires_at=LoginSession.expires_at - 14 * 86_400))
    assert admin.get("/api/keys").status_code == 401
    with pytest.raises(ConfigError, match="session_idle_hours"):
        ServeConfig(session_idle_hours=-1)


def test_a_database_that_is_busy_signs_nobody_out(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = admin_of(app)
    aged(app, 1)

    def busy() -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(type(app.state.services.workspace), "session", lambda self: busy())
    assert admin.get("/api/keys").status_code == 200
