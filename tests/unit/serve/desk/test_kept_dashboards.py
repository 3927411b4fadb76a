from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import ChatwrightError, MissingError
from chatwright.feedback import dashboard as figures
from chatwright.feedback.figures import Dashboard
from chatwright.serve.desk import kept_dashboards
from chatwright.serve.desk.kept_dashboards import KeptDashboards, Question
from chatwright.workspace.database import Workspace
from large_workspace import fill
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(kept_dashboards, "LARGE", 50)
    with workspace_of(request.param, tmp_path) as made:
        yield made


def asked(project: str) -> Question:
    return Question(project=project, labeller_kinds=("human",), held_out=())


def whole(answer: Dashboard | Future[Dashboard]) -> Dashboard:
    return answer if isinstance(answer, Dashboard) else answer.result(timeout=100)


def settle(kept: KeptDashboards, question: Question) -> None:
    running = kept._kept[question].running
    if running is not None:
        running.exception(timeout=100)


def test_a_large_project_is_measured_apart_once_and_kept(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    question = asked(fill(workspace, 60))
    kept, runs, go = KeptDashboards(workspace), [], threading.Event()
    run = KeptDashboards._run

    def counted(self: KeptDashboards, question: Question) -> Dashboard:
        runs.append(question)
        assert go.wait(100)
        return run(self, question)

    monkeypatch.setattr(KeptDashboards, "_run", counted)
    first, second = kept.ask(question), kept.ask(question)
    assert isinstance(first, Future) and first is second
    go.set()
    found = whole(first)
    with workspace.reading() as session:
        here = figures.dashboard(session, question.project, labeller_kinds=("human",))
    assert replace(found, measured_at=here.measured_at) == here and found.progress[0].labels > 60
    settle(kept, question)
    assert kept.ask(question) is found and len(runs) == 1
    fill_more(workspace)
    assert kept.ask(question) is found and len(runs) == 1  # not yet due
    kept._kept[question].due = 0.0
    assert kept.ask(question) is found  # nobody waits for the new one
    settle(kept, question)
    newer = kept.ask(question)
    assert isinstance(newer, Dashboard) and newer.progress[0].labels == found.progress[0].labels + 1 and len(runs) == 2
    restarted = KeptDashboards(workspace)
    assert restarted.ask(question) == newer and len(runs) == 2
    with pytest.raises(MissingError):
        kept.ask(asked("proj_x"))


def fill_more(workspace: Workspace) -> None:
    """One more label."""
    from sqlalchemy import insert, select

    from chatwright.feedback.tables import LabelEvent, LabelRow

    with workspace.session() as session:
        for table in (LabelRow, LabelEvent):
            columns = [column for column in table.__table__.columns if column.name not in ("uuid", "seq", "id")]
            last = session.execute(select(*columns).limit(1)).one()
            number: dict[str, Any] = {"seq": 10**6} if table is LabelRow else {"id": 10**6}
            session.execute(insert(table).values(**last._mapping, uuid="one more", **number))


def test_a_failure_is_said_and_tried_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    question = asked(fill(workspace, 60))
    kept = KeptDashboards(workspace)
    run = KeptDashboards._run

    def failing(self: KeptDashboards, question: Question) -> Dashboard:
        raise OSError("no process")

    monkeypatch.setattr(KeptDashboards, "_run", failing)
    with pytest.raises(ChatwrightError, match="could not be measured"):
        whole(kept.ask(question))
    monkeypatch.setattr(KeptDashboards, "_run", run)
    found = whole(kept.ask(question))
    settle(kept, question)
    monkeypatch.setattr(KeptDashboards, "_run", failing)
    fill_more(workspace)
    kept._kept[question].due = 0.0
    for _ in range(2):  # the last good one stays
        assert kept.ask(question) is found
        settle(kept, question)
    (workspace.folder / "cache" / question.file).write_text("{")
    monkeypatch.setattr(KeptDashboards, "_run", run)
    assert whole(KeptDashboards(workspace).ask(question)).project == question.project
