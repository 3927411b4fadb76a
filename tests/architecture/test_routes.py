"""Every route has a rule of access, and the rule holds: a matrix made from the application's own routes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from chatwright.errors import ConfigError
from chatwright.serve.app import create_app
from chatwright.serve.arena.tables import Battle
from chatwright.serve.auth import ROLES, SCOPES, check_rules, routes_of, rule_of
from chatwright.serve.chat.tables import ConversationRow, MessageRow
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.openai.errors import APIError
from chatwright.serve.security import MAX_ANONYMOUS_BYTES, MAX_JSON_VALUES, check_json
from chatwright.serve.settings import ServeConfig
from workspaces import admin_of, browser, member_of, workspace_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with workspace_of("sqlite", tmp_path) as workspace:
        # As behind a proxy: /metrics needs a key there.
        yield create_app(ServeConfig(public_url="http://chat.example"), EngineRegistry(), workspace)


def calls(app: FastAPI) -> list[tuple[str, str, str]]:
    """(method, address, rule) of everything that can be called."""
    return [
        (method, re.sub(r"\{[^}]+\}", "x", path), rule_of(route))
        for path, route in routes_of(app.routes)
        for method in sorted(route.methods)
    ]


def test_a_route_without_a_rule_stops_the_start(app: FastAPI) -> None:
    check_rules(app)

    @app.get("/bare")
    def bare() -> None:
        """Anybody."""

    with pytest.raises(ConfigError, match="/bare"):
        check_rules(app)


def test_matrix(app: FastAPI) -> None:
    admin = admin_of(app)
    member = member_of(app, admin, "ada")
    revoked = admin.post("/api/keys", json={"name": "revoked"}).json()
    admin.delete(f"/api/keys/{revoked['id']}")
    scoped = {s: admin.post("/api/keys", json={"name": s, "scopes": [s]}).json()["key"] for s in ("models", "embeddings")}
    guarded = [call for call in calls(app) if call[2] != "public"]
    assert len(guarded) >= 10
    wrong: list[Any] = []

    def expect(status: int, who: str, client: Any, method: str, path: str, **headers: str) -> None:
        answer = client.request(method, path, headers=headers, json={} if method in ("POST", "PUT", "PATCH") else None)
        if answer.status_code != status or set(answer.json()["error"]) != {"message", "type", "param", "code"}:
            wrong.append((who, method, path, answer.status_code, answer.text[:80]))

    for method, path, rule in guarded:
        kind, _, need = rule.partition(":")
        nobody = browser(app)
        expect(401, "nobody", nobody, method, path)
        expect(401, "bad key", nobody, method, path, authorization="Bearer cw-bad")
        expect(401, "bad scheme", nobody, method, path, authorization=f"Basic {scoped['models']}")
        expect(401, "revoked", nobody, method, path, authorization=f"Bearer {revoked['key']}")
        expect(421, "foreign host", admin, method, path, host="evil.example")
        if kind == "key":
            expect(401, "a browser", admin, method, path)
            other = scoped["embeddings" if need != "embeddings" else "models"]
            expect(403, "wrong scope", nobody, method, path, authorization=f"Bearer {other}")
        else:
            expect(401, "a key", nobody, method, path, authorization=f"Bearer {scoped['models']}")
            if ROLES.index(need) > 0:
                expect(403, "a member", member, method, path)
            if method != "GET":
                expect(403, "no CSRF token", admin, method, path, **{"x-csrf-token": ""})
        for odd in (f"/{path}", f"{path}/", f"/x/..{path}", path.replace("/", "/%2e/", 1), f"{path}%00"):
            answer = browser(app).request(method, odd)
            if answer.status_code < 300 and "text/html" not in answer.headers.get("content-type", ""):
                wrong.append(("odd path", method, odd, answer.status_code))
    assert not wrong, "\n".join(map(str, wrong))
    known = {f"user:{role}" for role in ROLES} | {f"key:{scope}" for scope in SCOPES}
    assert {rule for _, _, rule in guarded} <= known


# A body that passes, for routes that take one: the id must be what is refused.
BODIES: dict[str, Any] = {
    "PATCH /api/conversations/{conversation_id}": {"title": "x"},
    "POST /api/conversations/{conversation_id}/messages": {"content": "x"},
    "POST /api/messages/{message_id}/edit": {"content": "x"},
    "POST /api/messages/{message_id}/branch": {"token": 0, "alternative": 96},
    "POST /api/messages/{message_id}/feedback": {"vote": "up"},
    "POST /api/arena/battles/{battle_id}/vote": {"vote": "a"},
    "PATCH /api/keys/{key_id}": {"training_consent": True},
    "PUT /api/prompts/{prompt_id}": {"language": "en", "title": "x", "text": "x"},
}


def test_what_belongs_to_others_answers_404(app: FastAPI) -> None:
    """Every member's route that names a thing, found in the application; a new kind of thing must be added here."""
    admin = admin_of(app)
    (owner,) = (person["id"] for person in admin.get("/api/users").json())
    with app.state.services.workspace.session() as session:
        chat = ConversationRow(owner=owner)
        battle = Battle(owner=owner, prompt="x", entrants={})
        session.add_all((chat, battle))
        session.flush()
        message = MessageRow(conversation_id=chat.id, place=0, role="assistant", content="x")
        session.add(message)
        session.flush()
        ids = {"conversation_id": chat.id, "message_id": message.id, "battle_id": battle.id}
    ids["key_id"] = admin.post("/api/keys", json={"name": "mine"}).json()["id"]
    prompt = {"language": "en", "title": "x", "text": "x"}
    ids["prompt_id"] = admin.post("/api/prompts", json=prompt).json()["id"]
    ids["session_id"] = admin.get("/api/sessions").json()[0]["id"]
    other = member_of(app, admin, "other")
    named = [
        (method, path)
        for path, route in routes_of(app.routes)
        for method in sorted(route.methods)
        if "{" in path and rule_of(route) == "user:member"
    ]
    assert {name for _, path in named for name in re.findall(r"\{(\w+)", path)} == set(ids)
    for method, path in named:
        body = BODIES.get(f"{method} {path}", {}) if method in ("POST", "PUT", "PATCH") else None
        answer = other.request(method, path.format(**ids), json=body)
        assert (answer.status_code, set(answer.json())) == (404, {"error"}), (method, path, answer.text)
    # The ids are real: their owner may use them.
    for path in ("/api/conversations/{conversation_id}", "/api/arena/battles/{battle_id}"):
        assert admin.get(path.format(**ids)).status_code == 200
    assert admin.post("/api/messages/{message_id}/feedback".format(**ids), json={"vote": "up"}).status_code == 200
    assert admin.delete("/api/prompts/{prompt_id}".format(**ids)).status_code == 204
    assert admin.delete("/api/keys/{key_id}".format(**ids)).status_code == 200


BOMBS = {
    "empty lists": b"[" + b"[]," * 600_000 + b"1]",
    "escapes in objects": b"[" + b'{"a":"\\u0041"},' * 120_000 + b"1]",
    "digits": b"[" + b"1" * 1_900_000 + b"]",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "escapes": b'"' + b'\\"' * 900_000 + b"\\",
    "surrogate": b'{"name": "\\ud800", "password": "x"}',
    "surrogate in a key": b'{"name": "a", "password": "x", "\\udfff": 1}',
    "NUL": b'{"name": "a\\u0000", "password": "x"}',
    "NaN": b'{"name": NaN, "password": "x"}',
    "infinity": b'{"name": 1e999, "password": "x"}',
    "long number": b'{"name": ' + b"9" * 100_000 + b', "password": "x"}',
    "not UTF-8": b'{"name": "\xff", "password": "x"}',
    "not JSON": b"{",
    "big": b" " * 2_000_001,
}


@pytest.mark.parametrize("signed_in", [False, True])
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(name: str, signed_in: bool, app: FastAPI) -> None:
    client = admin_of(app) if signed_in else browser(app)
    started = time.process_time()
    answer = client.post("/api/session", content=BOMBS[name], headers={"content-type": "application/json"})
    assert time.process_time() - started < 1
    too_large = name == "big" or (not signed_in and len(BOMBS[name]) > MAX_ANONYMOUS_BYTES)
    assert answer.status_code == (413 if too_large else 400), answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_values_are_counted_outside_of_texts() -> None:
    """Commas and brackets of a text are no values, and token ids count for little."""
    check_json(json.dumps({"text": ", [{" * 300_000, "ids": list(range(150_000))}).encode())
    check_json(json.dumps(list(range(150_000)), separators=(",", ":")).encode())
    check_json(b"[" + b"1.5," * (MAX_JSON_VALUES - 2) + b"1]")
    for many in (b"1.5,", b'"",', b"[],", b"null,"):
        with pytest.raises(APIError, match="more than 50000 values"):
            check_json(b"[" + many * (MAX_JSON_VALUES + 1) + b"1]")


def test_ordinary_json_passes() -> None:
    check_json('{"text": "\\ud83c\\udf4e \\\\u0000 [[[ 苹果", "n": [1.5, -2, null, true]}'.encode())


def test_answers_carry_the_headers_of_safety(app: FastAPI) -> None:
    answer = browser(app).get("/docs", headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200 and answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff" and "/api/keys" in answer.text
    assert browser(app).get("/docs", headers={"x-request-id": "a b\t"}).headers["x-request-id"].startswith("req_")
    unknown = browser(app).post("/nowhere")
    assert unknown.status_code in (404, 405) and "error" in unknown.json()


def test_foreign_host_names_are_refused() -> None:
    local = ServeConfig()
    assert all(map(local.knows_host, ("127.0.0.1:8000", "localhost", "[::1]:80")))
    odd = ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "127.0.0.1/x"]
    odd += ["", "a:b:c", "10.0.0.1", "127.0.0.1:x"]
    assert not any(map(local.knows_host, odd))
    behind = ServeConfig(public_url="https://chat.example.org")
    assert behind.knows_host("chat.example.org") and not behind.knows_host("example.org")
    assert behind.cookie.startswith("__Host-")
