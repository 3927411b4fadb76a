from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRouter
from sqlalchemy import select, update
from starlette.testclient import TestClient

from chatwright.serve.app import create_app
from chatwright.serve.auth import Principal, require_scope
from chatwright.serve.auth_tables import ApiKey
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.keys import keep_bootstrap_key
from chatwright.serve.limits import Buckets
from chatwright.serve.settings import ServeConfig
from workspaces import KINDS, admin_of, browser, member_of, workspace_of


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FastAPI]:
    with workspace_of(request.param, tmp_path) as workspace:
        made = create_app(ServeConfig(), EngineRegistry(), workspace)
        probe = APIRouter()

        @probe.get("/probe")
        def look(who: Annotated[Principal, Depends(require_scope("chat"))], spend: int = 0) -> dict[str, Any]:
            shared = made.state.services
            shared.limits.record(shared.workspace, who, "m", prompt_tokens=spend, completion_tokens=0)
            return {"id": who.id}

        made.include_router(probe)
        made.router.routes.insert(0, made.router.routes.pop())  # before the web app's fallback
        yield made


def key_of(client: TestClient, **settings: Any) -> tuple[str, str]:
    answer = client.post("/api/keys", json={"name": "k", **settings})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"], answer.json()["key"]


def probe(app: FastAPI, key: str, spend: int = 0) -> Any:
    return browser(app).get(f"/probe?spend={spend}", headers={"authorization": f"Bearer {key}"})


def test_a_key_works_until_it_is_revoked_and_for_its_scopes_only(app: FastAPI) -> None:
    admin = admin_of(app)
    key_id, key = key_of(admin, scopes=["chat"])
    assert probe(app, key).status_code == 200
    assert probe(app, key_of(admin, scopes=["embeddings"])[1]).status_code == 403
    assert probe(app, key + "x").status_code == 401 and probe(app, "").status_code == 401
    with app.state.services.workspace.reading() as session:
        assert key not in session.scalars(select(ApiKey.key_hash)).all()
    assert key not in admin.get("/api/keys").text
    assert admin.delete(f"/api/keys/{key_id}").json()["revoked_at"]
    assert probe(app, key).status_code == 401


def test_expired_keys_and_keys_of_disabled_people_are_refused(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    _, old = key_of(admin, expires_in_days=1)
    _, hers = key_of(ada)
    assert probe(app, old).status_code == probe(app, hers).status_code == 200
    with app.state.services.workspace.session() as session:
        session.execute(update(ApiKey).where(ApiKey.expires_at.is_not(None)).values(expires_at=1.0))
    user_id = ada.get("/api/session").json()["user_id"]
    admin.patch(f"/api/users/{user_id}", json={"disabled": True})
    assert probe(app, old).status_code == probe(app, hers).status_code == 401


def test_keys_of_others_are_not_found(app: FastAPI) -> None:
    admin = admin_of(app)
    key_id, key = key_of(admin)
    ada = member_of(app, admin, "ada")
    assert ada.delete(f"/api/keys/{key_id}").status_code == 404 and ada.get("/api/keys").json() == []
    assert probe(app, key).status_code == 200


def test_requests_per_minute(app: FastAPI) -> None:
    _, key = key_of(admin_of(app), requests_per_minute=2)
    answers = [probe(app, key) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert [a.headers["x-ratelimit-remaining-requests"] for a in answers] == ["1", "0", "0"]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"


def test_tokens_are_paid_afterwards(app: FastAPI) -> None:
    _, key = key_of(admin_of(app), tokens_per_minute=60)
    assert probe(app, key, spend=90).status_code == 200
    refused = probe(app, key)
    assert refused.status_code == 429 and 28 <= int(refused.headers["retry-after"]) <= 32


def test_budgets_and_usage(app: FastAPI) -> None:
    admin = admin_of(app)
    _, daily = key_of(admin, tokens_per_day=10)
    _, total = key_of(admin, tokens_total=10)
    assert [probe(app, daily, spend=6).status_code for _ in range(3)] == [200, 200, 429]
    assert [probe(app, total, spend=10).status_code for _ in range(2)] == [200, 429]
    assert probe(app, total).headers["x-should-retry"] == "false"
    assert probe(app, daily).json()["error"]["code"] == "insufficient_quota"
    assert sorted((row["requests"], row["prompt_tokens"]) for row in admin.get("/api/usage").json()) == [(1, 10), (2, 12)]
    ada = member_of(app, admin, "ada")
    assert ada.get("/api/usage").json() == [] and ada.get("/api/usage?everyone=true").status_code == 403


def test_buckets_fill_again_at_their_rate() -> None:
    at = [0.0]
    buckets = Buckets(lambda: at[0])
    assert [buckets.take("a", 1, capacity=2, per_s=0.5) for _ in range(3)] == [(1.0, 0.0), (0.0, 0.0), (0.0, 2.0)]
    at[0] = 2.0
    assert buckets.take("a", 1, capacity=2, per_s=0.5) == (0.0, 0.0)
    at[0] = 1000.0
    assert buckets.take("a", 1, capacity=2, per_s=0.5) == (1.0, 0.0)


def account(client: TestClient) -> str:
    return str(client.get("/api/session").json()["user_id"])


def test_a_member_cannot_raise_their_own_limits(app: FastAPI) -> None:
    """Neither with a generous key, nor with several keys."""
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    admin.patch(f"/api/users/{account(ada)}", json={"requests_per_minute": 3})
    keys = [key_of(ada, requests_per_minute=10**9)[1], key_of(ada)[1]]
    answers = [probe(app, key) for key in (keys[0], keys[1], keys[0], keys[1], keys[0])]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"  # the limit that ends first
    assert "account" in answers[-1].json()["error"]["message"]
    assert probe(app, key_of(admin)[1]).status_code == 200
    assert ada.patch(f"/api/users/{account(ada)}", json={"requests_per_minute": 0}).status_code == 403


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_total", "tokens_per_minute"])
def test_budgets_of_an_account_hold_over_all_its_keys(app: FastAPI, limit: str) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    changed = admin.patch(f"/api/users/{account(ada)}", json={limit: 10}).json()
    assert changed[limit] == 10
    first, second = key_of(ada)[1], key_of(ada)[1]
    assert [probe(app, key, spend=6).status_code for key in (first, second, first)] == [200, 200, 429]
    assert probe(app, key_of(admin)[1], spend=6).status_code == 200


def test_the_servers_limits_hold_for_accounts_that_have_none(app: FastAPI) -> None:
    settings = replace(app.state.services.settings, requests_per_minute=2, tokens_per_day=10)
    app.state.services = replace(app.state.services, settings=settings)
    admin = admin_of(app)
    ada, bob = member_of(app, admin, "ada"), member_of(app, admin, "bob")
    keys = [key_of(ada)[1] for _ in range(3)]
    assert [probe(app, key).status_code for key in keys] == [200, 200, 429]
    admin.patch(f"/api/users/{account(bob)}", json={"requests_per_minute": 100})
    key = key_of(bob)[1]
    assert [probe(app, key, spend=5).status_code for _ in range(3)] == [200, 200, 429]  # tokens of the day


def test_a_refused_request_uses_nothing_up(app: FastAPI) -> None:
    admin = admin_of(app)
    ada = member_of(app, admin, "ada")
    admin.patch(f"/api/users/{account(ada)}", json={"requests_per_minute": 4})
    tight, loose = key_of(ada, requests_per_minute=1)[1], key_of(ada)[1]
    assert [probe(app, tight).status_code for _ in range(6)] == [200] + [429] * 5
    assert [probe(app, loose).status_code for _ in range(4)] == [200, 200, 200, 429]
    total = key_of(admin, tokens_total=1, requests_per_minute=3)[1]
    assert [probe(app, total, spend=1).status_code for _ in range(9)] == [200] + [429] * 8
    assert probe(app, total).json()["error"]["code"] == "insufficient_quota"  # and not its rate


def test_administrators_see_limit_and_revoke_every_key(app: FastAPI) -> None:
    admin = admin_of(app)
    keep_bootstrap_key(app.state.services.workspace, "cw-server-key-of-the-start")
    ada = member_of(app, admin, "ada")
    leaked, value = key_of(ada, name="leaked")
    assert ada.get("/api/keys?everyone=true").status_code == 403
    rows = {row["name"]: row for row in admin.get("/api/keys?everyone=true").json()}
    assert rows["leaked"]["owner"] == "ada" and rows["bootstrap"]["user_id"] is None
    assert value not in str(rows) and "cw-server-key" not in str(rows)
    assert admin.patch(f"/api/keys/{leaked}", json={"requests_per_minute": 1}).json()["requests_per_minute"] == 1
    assert [probe(app, value).status_code for _ in range(2)] == [200, 429]
    assert admin.patch(f"/api/keys/{leaked}", json={"training_consent": True}).status_code == 403  # not theirs to give
    assert admin.delete(f"/api/keys/{leaked}").status_code == 200
    assert probe(app, value).status_code == 401
    assert ada.delete(f"/api/keys/{rows['bootstrap']['id']}").status_code == 404
    actions = [row["action"] for row in admin.get("/api/audit").json()]
    assert {"key.limits", "key.revoke"} <= set(actions)


def test_the_servers_own_key_stays_revoked(app: FastAPI) -> None:
    admin, workspace, value = admin_of(app), app.state.services.workspace, "cw-server-key-of-the-start"
    keep_bootstrap_key(workspace, value)
    assert probe(app, value).status_code == 200
    (own,) = (row for row in admin.get("/api/keys?everyone=true").json() if row["name"] == "bootstrap")
    keep_bootstrap_key(workspace, "cw-another-one-for-a-while")
    keep_bootstrap_key(workspace, value)  # replaced and brought back: nobody has revoked it
    assert probe(app, value).status_code == 200
    assert admin.delete(f"/api/keys/{own['id']}").status_code == 200
    keep_bootstrap_key(workspace, value)  # the next start
    assert probe(app, value).status_code == 401
