"""Names of accounts, and what happened to a task, for leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from desk_data import project, ranked
from workspaces import admin_of, member_of, workspace_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with workspace_of("sqlite", tmp_path) as workspace:
        yield create_app(ServeConfig(), EngineRegistry(), workspace)


def test_leads_see_names_and_labellers_do_not(app: FastAPI) -> None:
    admin = admin_of(app)
    lead, labeller = member_of(app, admin, "lea", role="lead"), member_of(app, admin, "bo", role="labeller")
    found = {one["id"]: one["name"] for one in lead.get("/api/desk/people").json()}
    assert {"lea", "bo"} <= set(found.values())
    assert found[lead.get("/api/session").json()["user_id"]] == "lea"
    assert labeller.get("/api/desk/people").status_code == 403


def test_a_task_tells_what_happened_to_it(app: FastAPI) -> None:
    lead = member_of(app, admin_of(app), "lea", role="lead")
    with app.state.services.workspace.session() as session:
        mine = project(session)
        task = ranked(session, mine, {"ann": "A>B=C", "ben": "A>B=C"})
        ranked(session, mine, {"cyd": "A>B=C"}, text="another one")
    assert lead.post("/api/desk/merge", json={"project": mine}).json()["merged"] == 2
    events = lead.get(f"/api/desk/tasks/{task}").json()["events"]
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "task.created" and kinds.count("label.submitted") == 2 and kinds[-1] == "label.merged"
    assert {event["actor"] for event in events if event["kind"] == "label.submitted"} == {"ann", "ben"}
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
