from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from fastapi import FastAPI
from sqlalchemy import select

from chatwright.serve import users
from chatwright.serve.app import create_app
from chatwright.serve.auth_tables import LoginSession, User
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from chatwright.serve.users import first_admin_link
from workspaces import KINDS, PASSWORD, admin_of, browser, member_of, workspace_of


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FastAPI]:
    with workspace_of(request.param, tmp_path) as workspace:
        yield create_app(ServeConfig(), EngineRegistry(), workspace)


def test_the_first_administrator_signs_up_once(app: FastAPI) -> None:
    workspace = app.state.services.workspace
    stale, token = first_admin_link(workspace), first_admin_link(workspace)
    client = browser(app)
    use = {"name": "root", "password": PASSWORD}
    assert client.post("/api/links/redeem", json={"token": stale, **use}).status_code == 404
    assert client.post("/api/links/look", json={"token": token}).json() == {"kind": "admin", "role": "admin", "name": ""}
    assert client.post("/api/links/redeem", json={"token": token, **use}).json()["role"] == "admin"
    assert client.post("/api/links/redeem", json={"token": token, **use}).status_code == 404
    assert first_admin_link(workspace) == ""


def test_invited_people_have_their_role_and_no_more(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "Ada", "labeller")
    assert ada.get("/api/session").json()["role"] == "labeller"
    assert ada.get("/api/users").status_code == 403
    assert ada.post("/api/invites", json={"role": "admin"}).status_code == 403
    url = admin.post("/api/invites", json={}).json()["url"]
    taken = browser(app).post(
        "/api/links/redeem", json={"token": url.partition("#")[2], "name": " ADA ", "password": PASSWORD}
    )
    assert taken.status_code == 409
    assert {row["name"] for row in admin.get("/api/users").json()} == {"root", "ada"}


def test_sign_in_makes_a_new_session_whatever_cookie_came(app: FastAPI) -> None:
    admin_of(app)
    client = browser(app)
    client.cookies.set("chatwright_session", "chosen-by-an-attacker")
    answer = client.post("/api/session", json={"name": "root", "password": PASSWORD})
    set_cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200 and "chosen-by-an-attacker" not in set_cookie
    assert "HttpOnly" in set_cookie and "SameSite=lax" in set_cookie
    thief = browser(app)
    thief.cookies.set("chatwright_session", "chosen-by-an-attacker")
    assert thief.get("/api/session").json()["signed_in"] is False


def test_signing_out_ends_the_session_on_the_server(app: FastAPI) -> None:
    admin = admin_of(app)
    kept = admin.cookies["chatwright_session"]
    assert admin.delete("/api/session").status_code == 200
    again = browser(app)
    again.cookies.set("chatwright_session", kept)
    assert again.get("/api/users").status_code == 401


def test_wrong_passwords_are_throttled_and_names_are_not_told(app: FastAPI) -> None:
    admin_of(app)
    client = browser(app)
    answers = [client.post("/api/session", json={"name": "root", "password": "wrong"}) for _ in range(6)]
    assert [a.status_code for a in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    unknown = client.post("/api/session", json={"name": "nobody", "password": "wrong"})
    assert unknown.json() == answers[0].json()


def test_a_reset_link_ends_other_sessions(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    user_id = ada.get("/api/session").json()["user_id"]
    token = admin.post(f"/api/users/{user_id}/reset").json()["url"].partition("#")[2]
    fresh = browser(app)
    assert fresh.post("/api/links/redeem", json={"token": token, "password": "another password"}).json()["name"] == "ada"
    assert ada.get("/api/keys").status_code == 401 and fresh.get("/api/keys").status_code == 200
    assert browser(app).post("/api/session", json={"name": "ada", "password": PASSWORD}).status_code == 401


def test_disabled_people_are_out_at_once_and_the_last_administrator_stays(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    key = ada.post("/api/keys", json={"name": "k", "scopes": ["metrics"]})
    assert key.status_code == 403
    user_id = ada.get("/api/session").json()["user_id"]
    assert admin.patch(f"/api/users/{user_id}", json={"disabled": True}).status_code == 200
    assert ada.get("/api/keys").status_code == 401
    root = admin.get("/api/session").json()["user_id"]
    for change in ({"role": "member"}, {"disabled": True}):
        assert admin.patch(f"/api/users/{root}", json=change).status_code == 409
    assert admin.get("/api/users").status_code == 200  # undone as a whole


def test_unsafe_requests_need_the_token_and_the_same_site(app: FastAPI) -> None:
    admin = admin_of(app)
    good = admin.headers["x-csrf-token"]
    for headers in ({"x-csrf-token": ""}, {"x-csrf-token": "x" * 43}, {"origin": "https://evil.example"},
                    {"sec-fetch-site": "cross-site"}):  # fmt: skip
        assert admin.post("/api/invites", json={}, headers=headers).status_code == 403, headers
    assert admin.post("/api/invites", json={}, headers={"x-csrf-token": good}).status_code == 200
    foreign = browser(app).post(
        "/api/session", json={"name": "root", "password": PASSWORD}, headers={"origin": "https://evil.example"}
    )
    assert foreign.status_code == 403


def test_no_secret_is_kept_as_it_is(app: FastAPI) -> None:
    admin = admin_of(app)
    cookie = admin.cookies["chatwright_session"]
    with app.state.services.workspace.reading() as session:
        assert cookie not in session.scalars(select(LoginSession.token_hash)).all()
        (kept,) = session.scalars(select(User.password_hash))
    assert kept is not None and kept.startswith("$argon2id$") and PASSWORD not in kept
    actions = [row["action"] for row in admin.get("/api/audit").json()]
    assert actions == ["link.admin"]


def test_nobodys_hash_costs_as_much_as_a_real_one_and_fits_no_password() -> None:
    hasher = PasswordHasher()
    assert not hasher.check_needs_rehash(users._NOBODY)
    for password in ("", "password", users._NOBODY):
        with pytest.raises(VerifyMismatchError):
            hasher.verify(users._NOBODY, password)
