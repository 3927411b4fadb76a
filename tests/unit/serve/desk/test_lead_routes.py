"""Dashboard, merging and data browser over HTTP: who may, what comes back, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from chatwright.feedback import dashboard as figures
from chatwright.serve.app import create_app
from chatwright.serve.auth_tables import AuditEvent
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from desk_data import label, project, ranked, task
from workspaces import admin_of, member_of, workspace_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with workspace_of("sqlite", tmp_path) as workspace:
        yield create_app(ServeConfig(), EngineRegistry(), workspace)


@pytest.fixture
def lead(app: FastAPI) -> TestClient:
    return member_of(app, admin_of(app), "lea", role="lead")


@pytest.fixture
def made(app: FastAPI) -> dict[str, str]:
    with app.state.services.workspace.session() as session:
        mine = project(session, adjudicate_below=0.6, wage_per_hour=20.0)
        sure = ranked(session, mine, {"ann": "A>B=C", "ben": "A>B=C"})
        torn = ranked(session, mine, {"ann": "A>B>C", "ben": "C>B>A"}, text="a torn one")
        return {"project": mine, "sure": sure, "torn": torn}


def test_dashboard(lead: TestClient, made: dict[str, str]) -> None:
    found = lead.get("/api/desk/dashboard", params={"project": made["project"], "held_out": ["ben"]}).json()
    assert found["agreement"]["num_tasks"] == 2 and found["agreement"]["percent"]["value"] == 0.5
    assert found["agreement"]["held_out_labellers"] == ["ben"] and found["mergeable"] == 2
    assert [line["labeller"] for line in found["labellers"]] == ["ann", "ben"]
    assert found["cost"]["cost_per_ranking"] == pytest.approx(30 * 20 / 3600)
    only = lead.get("/api/desk/dashboard", params={"project": made["project"], "labeller_kind": ["ai", "simulated"]}).json()
    assert only["labellers"] == [] and only["labeller_kinds"] == ["simulated", "ai"]
    assert lead.get("/api/desk/dashboard", params={"project": "proj_x"}).status_code == 404
    assert lead.get("/api/desk/dashboard").status_code == 400
    assert lead.get("/api/desk/dashboard", params={"project": "x", "labeller_kind": "cat"}).status_code == 400


def test_an_open_dashboard_is_measured_once_and_is_never_stale(
    app: FastAPI, lead: TestClient, made: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    whole = figures.dashboard

    def counted(*args: object, **more: object) -> object:
        measured.append(more)
        return whole(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(figures, "dashboard", counted)

    def rankings(**more: object) -> int:
        found = lead.get("/api/desk/dashboard", params={"project": made["project"], **more}).json()
        return int(found["progress"][0]["labels"])

    assert [rankings(), rankings(), rankings(labeller_kind="human")] == [4, 4, 4] and len(measured) == 2
    with app.state.services.workspace.session() as session:
        ranked(session, made["project"], {"cy": "A>B", "dora": "B>A"})
    assert rankings() == 6 and len(measured) == 3


def test_merging(app: FastAPI, lead: TestClient, made: dict[str, str]) -> None:
    answer = lead.post("/api/desk/merge", json={"project": made["project"], "method": "borda"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "merged": 1, "adjudicate": 1, "waiting": 0, "unjudged": 0, "cycles": 0, "method": "borda"
    }  # fmt: skip
    found = lead.get("/api/desk/dashboard", params={"project": made["project"]}).json()
    assert found["adjudication"] == 1 and found["mergeable"] == 1
    assert lead.post("/api/desk/merge", json={"project": made["project"], "method": "oracle"}).status_code == 400
    assert lead.post("/api/desk/merge", json={"project": "proj_x"}).status_code == 404
    with app.state.services.workspace.reading() as session:
        (audited,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "labels.merged"))
    assert audited.target == made["project"] and audited.detail["adjudicate"] == 1


def test_browsing(lead: TestClient, made: dict[str, str]) -> None:
    page = lead.get("/api/desk/browse", params={"project": made["project"], "agreement_below": 0.5}).json()
    assert [one["id"] for one in page["tasks"]] == [made["torn"]] and page["total"] == 1
    assert lead.get("/api/desk/browse", params={"text": "TORN one", "limit": 1}).json()["total"] == 1
    found = lead.get(f"/api/desk/tasks/{made['torn']}").json()
    assert [one["labeller"] for one in found["labels"]] == ["ann", "ben"] and found["answers"][2]["model"] == "model-2"
    assert lead.get("/api/desk/tasks/task_x").status_code == 404
    texts = ({"text": "x\x00"}, {"text": "x" * 500})
    for wrong in ({"limit": 0}, {"limit": 10_000}, {"offset": -1}, {"agreement_below": 2}, *texts):
        assert lead.get("/api/desk/browse", params=wrong).status_code == 400, wrong


def test_labellers_see_none_of_it(app: FastAPI, made: dict[str, str]) -> None:
    labeller = member_of(app, admin_of(app), "ann", role="labeller")
    for address in (f"/api/desk/dashboard?project={made['project']}", "/api/desk/browse", f"/api/desk/tasks/{made['sure']}"):
        assert labeller.get(address).status_code == 403
    assert labeller.post("/api/desk/merge", json={"project": made["project"]}).status_code == 403


def test_texts_of_strangers_come_back_as_they_are(app: FastAPI, lead: TestClient) -> None:
    """JSON only; the page shows them as text."""
    with app.state.services.workspace.session() as session:
        mine = project(session)
        one = task(session, mine, text="<script>alert(1)</script>", k=2)
        label(session, one, "ann", "A>B", payload={"comment": "<img src=x onerror=alert(1)>"})
    answer = lead.get(f"/api/desk/tasks/{one}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["messages"][0]["content"] == "<script>alert(1)</script>"
