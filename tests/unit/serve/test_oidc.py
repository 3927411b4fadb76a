"""Signing in against a provider of our own on loopback, over real HTTP, with every way its answer may be wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from chatwright.errors import ConfigError
from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.oidc import COOKIE, open_provider, own_path
from chatwright.serve.settings import ServeConfig
from workspaces import admin_of, browser, member_of, workspace_of

CLIENT, SECRET = "chatwright", "a secret: with/odd characters"


def new_key(kid: str, curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve, parameters={"kid": kid})  # type: ignore[arg-type]


class StubProvider:
    """Knows one person. `change` alters the claims, `signed_by` the key of the next id_token."""

    def __init__(self) -> None:
        self.key = new_key("one")
        self.published = [self.key]
        self.signed_by, self.algorithm = self.key, "ES256"
        self.change: Callable[[dict[str, Any]], None] = lambda claims: None
        self.person = {"sub": "248289761001", "preferred_username": "Ada"}
        self.codes: dict[str, dict[str, str]] = {}
        self.calls: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(*provider.get(urlsplit(self.path).path))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                self.answer(*provider.exchange({k: v[0] for k, v in form.items()}, self.headers.get("authorization", "")))

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def sign_with(self, algorithm: str, key: ECKey) -> None:
        self.algorithm, self.signed_by, self.published = algorithm, key, [key]

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        self.calls.append(path)
        if path == "/keys":
            return 200, dict(KeySet(list(self.published)).as_dict(private=False))
        names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        return 200, {"issuer": self.issuer} | {name: self.issuer + at for name, at in names.items()}

    def consent(self, address: str) -> dict[str, str]:
        """What a person does there: the query of the way back."""
        query = {k: v[0] for k, v in parse_qs(urlsplit(address).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return {"code": code, "state": query["state"]}

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        basic = base64.b64encode(b"chatwright:a%20secret%3A%20with%2Fodd%20characters").decode()
        if (
            asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]
            or authorization != f"Basic {basic}"
        ):  # fmt: skip
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.person,
        }  # fmt: skip
        self.change(claims)
        token = jwt.encode({"alg": self.algorithm, "kid": self.signed_by.kid}, claims, self.signed_by)
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": token}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubProvider]:
    monkeypatch.setenv("CHATWRIGHT_OIDC_CLIENT_SECRET", SECRET)
    provider = StubProvider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def make(stub: StubProvider, tmp_path: Path) -> Iterator[Callable[..., FastAPI]]:
    with workspace_of("sqlite", tmp_path) as workspace:
        yield lambda **more: create_app(
            ServeConfig(oidc_issuer=stub.issuer, oidc_client_id=CLIENT, **more), EngineRegistry(), workspace
        )


def signed_in_by(app: FastAPI, stub: StubProvider, client: Any = None, next_path: str = "/arena") -> tuple[Any, Any]:
    """(browser, the answer to its coming back)."""
    client = client or browser(app)
    left = client.get("/api/oidc/login", params={"next": next_path}, follow_redirects=False)
    assert left.status_code == 302, left.text
    return client, client.get("/api/oidc/callback", params=stub.consent(left.headers["location"]), follow_redirects=False)


def test_the_first_time_makes_an_account_and_the_second_finds_it(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make(oidc_role="labeller")
    assert browser(app).get("/api/oidc").json() == {"enabled": True, "name": "127.0.0.1"}
    client, back = signed_in_by(app, stub)
    assert (back.status_code, back.headers["location"]) == (303, "/arena")
    who = client.get("/api/session").json()
    assert (who["signed_in"], who["name"], who["role"]) == (True, "ada", "labeller")
    again, _ = signed_in_by(app, stub)
    assert again.get("/api/session").json()["user_id"] == who["user_id"]
    assert COOKIE not in again.cookies


def test_an_account_with_the_same_name_is_not_taken_over(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    admin = admin_of(app)
    local = member_of(app, admin, "ada").get("/api/session").json()
    client, _ = signed_in_by(app, stub)
    who = client.get("/api/session").json()
    assert who["name"] == "ada-2" and who["user_id"] != local["user_id"]
    stub.person = {"sub": "another", "preferred_username": "ada"}
    assert signed_in_by(app, stub)[0].get("/api/session").json()["name"] == "ada-3"


def test_who_is_disabled_or_unknown_stays_out(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    admin = admin_of(app)
    client, _ = signed_in_by(app, stub)
    admin.patch(f"/api/users/{client.get('/api/session').json()['user_id']}", json={"disabled": True})
    client, back = signed_in_by(app, stub)
    assert back.headers["location"] == "/login?failed=provider" and not client.get("/api/session").json()["signed_in"]
    closed = make(oidc_sign_up=False)
    stub.person = {"sub": "new", "preferred_username": "Eve"}
    client, back = signed_in_by(closed, stub)
    assert back.headers["location"] == "/login?failed=provider"
    assert "eve" not in {row["name"] for row in admin.get("/api/users").json()}


WRONG: dict[str, Callable[[StubProvider], None]] = {
    "another nonce": lambda stub: _set(stub, nonce="replayed"),
    "no nonce": lambda stub: _set(stub, nonce=None),
    "another audience": lambda stub: _set(stub, aud="somebody-else"),
    "several audiences, no azp": lambda stub: _set(stub, aud=[CLIENT, "other"]),
    "azp of another": lambda stub: _set(stub, azp="other"),
    "another issuer": lambda stub: _set(stub, iss="https://evil.example"),
    "expired": lambda stub: _set(stub, exp=int(time.time()) - 3600),
    "no exp": lambda stub: _set(stub, exp=None),
    "from the future": lambda stub: _set(stub, iat=int(time.time()) + 3600),
    "no sub": lambda stub: _set(stub, sub=None),
    "a long sub": lambda stub: _set(stub, sub="x" * 256),
    "another key": lambda stub: setattr(stub, "signed_by", new_key("one")),
    "an algorithm outside the list": lambda stub: stub.sign_with("ES384", new_key("three", "P-384")),
}


def _set(stub: StubProvider, **new: Any) -> None:
    def change(claims: dict[str, Any]) -> None:
        for name, value in new.items():
            claims.pop(name, None)
            if value is not None:
                claims[name] = value

    stub.change = change


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_id_token_signs_nobody_in(make: Callable[..., FastAPI], stub: StubProvider, wrong: str) -> None:
    app = make()
    WRONG[wrong](stub)
    client, back = signed_in_by(app, stub)
    assert back.headers["location"] == "/login?failed=provider", wrong
    assert client.get("/api/session").json()["signed_in"] is False


def test_state_works_once_and_only_in_the_browser_that_left(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    victim, attacker = browser(app), browser(app)
    left = attacker.get("/api/oidc/login", follow_redirects=False)
    back = stub.consent(left.headers["location"])
    victim.get("/api/oidc/login", follow_redirects=False)
    answer = victim.get("/api/oidc/callback", params=back, follow_redirects=False)  # login CSRF
    assert answer.headers["location"] == "/login?failed=provider"
    answer = attacker.get("/api/oidc/callback", params=back, follow_redirects=False)  # used up by the attempt
    assert answer.headers["location"] == "/login?failed=provider"
    assert not victim.get("/api/session").json()["signed_in"] and not attacker.get("/api/session").json()["signed_in"]


def test_new_keys_of_the_provider_are_found(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    signed_in_by(app, stub)
    provider = app.state.services.parts["oidc"]
    provider._keys = (provider._keys[0] - 120.0, provider._keys[1])  # two minutes later
    stub.signed_by = new_key("two")
    stub.published = [stub.signed_by]
    client, _ = signed_in_by(app, stub)
    assert client.get("/api/session").json()["signed_in"] is True
    assert stub.calls.count("/keys") == 2


def test_a_provider_that_is_down_is_said(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    stub.server.shutdown()
    stub.server.server_close()
    answer = browser(app).get("/api/oidc/login", follow_redirects=False)
    assert answer.status_code == 502 and answer.json()["error"]["code"] == "provider_failed"


def test_settings_that_are_not_whole_stop_the_start() -> None:
    assert open_provider(ServeConfig()) is None
    with pytest.raises(ConfigError, match="https"):
        open_provider(ServeConfig(oidc_issuer="http://login.example", oidc_client_id="x"))
    with pytest.raises(ConfigError, match="oidc_client_id"):
        open_provider(ServeConfig(oidc_issuer="https://login.example"))


def test_without_a_provider_nothing_is_there(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        client = browser(create_app(ServeConfig(), EngineRegistry(), workspace))
        assert client.get("/api/oidc").json() == {"enabled": False, "name": ""}
        assert client.get("/api/oidc/login", follow_redirects=False).status_code == 404


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "", "/\nx"])
def test_nobody_is_sent_away_after_signing_in(path: str) -> None:
    assert own_path(path) == "/"
    assert own_path("/c/conv_1?x=1") == "/c/conv_1?x=1"
