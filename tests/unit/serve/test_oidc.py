"""Signing in against a provider of our own on loopback, over real HTTP, with every way its answer may be wrong."""

from __future__ import annotations

import asyncio
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

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from chatwright.errors import ConfigError
from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.oidc import cookie_name, is_allowed, open_provider, own_path
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
        self.userinfo: dict[str, Any] = {}
        self.silent = threading.Event()
        self.heard = threading.Event()
        self.silent.set()  # not silent until a test clears it
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
        self.heard.set()
        self.silent.wait(60)
        if path == "/userinfo":
            return 200, {"sub": self.person["sub"]} | self.userinfo
        if path == "/keys":
            return 200, dict(KeySet(list(self.published)).as_dict(private=False))
        names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        names["userinfo_endpoint"] = "/userinfo"
        known = {"issuer": self.issuer, "scopes_supported": ["openid", "profile", "email"]}
        return 200, known | {name: self.issuer + at for name, at in names.items()}

    def consent(self, address: str) -> dict[str, str]:
        """What a person does there: the query of the way back."""
        query = {k: v[0] for k, v in parse_qs(urlsplit(address).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return {"code": code, "state": query["state"]}

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.silent.wait(60)
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
    provider.silent.set()
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def make(stub: StubProvider, tmp_path: Path) -> Iterator[Callable[..., FastAPI]]:
    with workspace_of("sqlite", tmp_path) as workspace:
        apps: list[FastAPI] = []

        def made(**more: Any) -> FastAPI:
            settings = ServeConfig(oidc_issuer=stub.issuer, oidc_client_id=CLIENT, **({"oidc_sign_up": "on"} | more))
            apps.append(create_app(settings, EngineRegistry(), workspace))
            return apps[-1]

        yield made
        for app in apps:
            app.state.services.parts["oidc"].close()


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
    assert cookie_name(ServeConfig()) not in again.cookies


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
    assert back.headers["location"] == "/login?failed=account" and not client.get("/api/session").json()["signed_in"]
    closed = make(oidc_sign_up="off", oidc_domain=("example.org",))
    stub.person = {"sub": "new", "preferred_username": "Eve"}
    _set(stub, email="eve@example.org", email_verified=True)
    client, back = signed_in_by(closed, stub)
    assert back.headers["location"] == "/login?failed=account"
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
    assert not victim.get("/api/session").json()["signed_in"]
    cookie = attacker.cookies[cookie_name(ServeConfig())]
    answer = attacker.get("/api/oidc/callback", params=back, follow_redirects=False)
    assert attacker.get("/api/session").json()["signed_in"] and answer.headers["location"] == "/"
    attacker.cookies.clear()
    attacker.cookies[cookie_name(ServeConfig())] = cookie  # kept: the provider takes a code once
    answer = attacker.get("/api/oidc/callback", params=back, follow_redirects=False)
    assert answer.headers["location"] == "/login?failed=provider"
    assert not attacker.get("/api/session").json()["signed_in"]


@pytest.mark.parametrize("forged", ["", ".", "x.y", "é.ü", "e30=.0"])
def test_a_cookie_of_others_begins_nothing(make: Callable[..., FastAPI], stub: StubProvider, forged: str) -> None:
    provider = make().state.services.parts["oidc"]
    _, cookie = provider.begin({"authorization_endpoint": "https://x.example"}, "https://here.example", "/")
    payload, _, signature = cookie.rpartition(".")
    assert provider.take("", forged) is None
    assert provider.take("x", cookie) is None and provider.take("x", payload + "." + signature[::-1]) is None
    assert not any("/token" in call for call in stub.calls)


def test_many_sign_ins_that_never_come_back_end_no_other(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    client = browser(app)
    left = client.get("/api/oidc/login", follow_redirects=False)
    strangers = browser(app)
    for _ in range(60):
        assert strangers.get("/api/oidc/login", follow_redirects=False).status_code == 302
    provider = app.state.services.parts["oidc"]
    for _ in range(5000):
        provider.begin(provider.known_metadata(), "https://here.example", "/")
    back = client.get("/api/oidc/callback", params=stub.consent(left.headers["location"]), follow_redirects=False)
    assert back.status_code == 303 and client.get("/api/session").json()["signed_in"]
    assert stub.calls.count("/.well-known/openid-configuration") == 1


def test_codes_that_fail_are_limited_by_network(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    client = browser(make())
    left = client.get("/api/oidc/login", follow_redirects=False)
    state = parse_qs(urlsplit(left.headers["location"]).query)["state"][0]
    cookie = client.cookies[cookie_name(ServeConfig())]
    statuses = []
    for n in range(60):
        client.cookies.clear()
        client.cookies[cookie_name(ServeConfig())] = cookie
        query = {"state": state, "code": f"guess-{n}"}
        statuses.append(client.get("/api/oidc/callback", params=query, follow_redirects=False).status_code)
    assert statuses[:30] == [303] * 30 and 429 in statuses


def test_a_silent_provider_delays_no_other_request(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    """More sign-ins wait for the provider than the server has threads, for its metadata and for the exchange of codes."""
    app = make()
    shared = app.state.services.parts["oidc"]

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            stub.silent.clear()
            waiting = [asyncio.create_task(client.get("/api/oidc/login")) for _ in range(60)]
            await asyncio.to_thread(stub.heard.wait, 30)
            others = [await client.get("/api/session") for _ in range(3)]
            assert [one.status_code for one in others] == [200] * 3 and not any(one.done() for one in waiting)
            stub.silent.set()
            left = await asyncio.gather(*waiting)
            assert {one.status_code for one in left} == {302}
            cookie, location = left[0].cookies[cookie_name(ServeConfig())], left[0].headers["location"]
            client.cookies.clear()
            stub.silent.clear()
            back = httpx.QueryParams(stub.consent(location))
            headers = {"cookie": f"{cookie_name(ServeConfig())}={cookie}"}
            answers = (client.get("/api/oidc/callback", params=back, headers=headers) for _ in range(25))
            waiting = [asyncio.create_task(one) for one in answers]
            while shared.threads._work_queue.qsize() < 20:  # four are with the provider, the others behind them
                await asyncio.sleep(0.01)
            assert (await client.get("/api/session")).status_code == 200 and not any(one.done() for one in waiting)
            stub.silent.set()
            ended = await asyncio.gather(*waiting)
            assert sorted(one.headers["location"] for one in ended)[0] == "/"  # the code works for one of them

    asyncio.run(ask())
    assert stub.calls.count("/.well-known/openid-configuration") == 1


def test_an_old_description_serves_while_the_provider_is_down(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make()
    client, _ = signed_in_by(app, stub)
    provider = app.state.services.parts["oidc"]
    provider._fetched_at -= 2 * 3600
    stub.server.shutdown()
    stub.server.server_close()
    assert client.get("/api/oidc/login", follow_redirects=False).status_code == 302


def test_strangers_get_no_account_unless_the_operator_says_so(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make(oidc_sign_up="auto")
    client, back = signed_in_by(app, stub)
    assert back.headers["location"] == "/login?failed=account" and not client.get("/api/session").json()["signed_in"]
    admin = admin_of(app)
    assert [row["name"] for row in admin.get("/api/users").json()] == ["root"]
    assert admin.get("/api/audit").json()[0]["action"] == "link.admin"
    assert "login.refused" in {row["action"] for row in admin.get("/api/audit").json()}


def test_a_domain_lets_its_people_in_and_holds_at_every_sign_in(make: Callable[..., FastAPI], stub: StubProvider) -> None:
    app = make(oidc_sign_up="auto", oidc_domain=("example.org",))
    location = browser(app).get("/api/oidc/login", follow_redirects=False).headers["location"]
    assert parse_qs(urlsplit(location).query)["scope"] == ["openid profile email"]
    _set(stub, email="ada@example.org", email_verified=True)
    assert signed_in_by(app, stub)[1].headers["location"] == "/arena"
    _set(stub, email="ada@elsewhere.example", email_verified=True)
    assert signed_in_by(app, stub)[1].headers["location"] == "/login?failed=account"
    _set(stub)  # the id_token has no address: userinfo has it
    stub.userinfo = {"email": "Ada@Example.ORG", "email_verified": True}
    assert signed_in_by(app, stub)[1].headers["location"] == "/arena"
    stub.userinfo["sub"] = "another"
    assert signed_in_by(app, stub)[1].headers["location"] == "/login?failed=provider"


ORG = ("example.org", "例子.中国")


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"email": "a@example.org", "email_verified": True}, True),
        ({"email": "a@xn--fsqu00a.xn--fiqs8s", "email_verified": True}, True),
        ({"email": "a@例子.中国", "email_verified": "true"}, True),
        ({"email": "a@example.org", "email_verified": False}, False),
        ({"email": "a@example.org"}, False),
        ({"email": "a@sub.example.org", "email_verified": True}, False),
        ({"email": "a@notexample.org", "email_verified": True}, False),
        ({"email": "a@example.org@evil.example", "email_verified": True}, False),
        ({"email": "example.org", "email_verified": True}, False),
        ({"email": ["a@example.org"], "email_verified": True}, False),
        ({"groups": ["staff", 3]}, True),
        ({"groups": "staff"}, True),
        ({"groups": ["Staff", "staff2"]}, False),
        ({"groups": {"staff": 1}}, False),
        ({}, False),
    ],
)
def test_who_belongs_to_a_domain_or_group(claims: dict[str, Any], allowed: bool) -> None:
    assert is_allowed(claims, ServeConfig(oidc_domain=ORG, oidc_group=("staff",))) is allowed
    assert is_allowed(claims, ServeConfig())


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
    assert own_path("/" + "字" * 600) == "/"  # a cookie has no room for it
