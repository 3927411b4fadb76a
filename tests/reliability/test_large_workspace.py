"""100,000 labelled tasks: memory of an export, and what the server's own process spends on the dashboard and the browser."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from chatwright.feedback.browse import Filters, browse
from chatwright.feedback.tables import TaskText
from chatwright.serve.desk.kept_dashboards import KeptDashboards, Question
from chatwright.workspace import text_search
from chatwright.workspace.database import DATABASE_FILE, Workspace
from large_workspace import fill
from workspaces import workspace_of

TASKS = 100_000
EXPORT_MB, DASHBOARD_S, PAGE_S = 300, 1.0, 0.3  # of memory, and of processor time in the server
PURGE_S = 5.0  # of processor time, in parts
pytestmark = pytest.mark.xdist_group("large")  # the workspace is filled once


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, str]]:
    with workspace_of("sqlite", tmp_path_factory.mktemp("large")) as workspace:
        yield workspace, fill(workspace, TASKS)


@pytest.mark.slow
def test_an_export_does_not_hold_the_store_in_memory(large: tuple[Workspace, str], tmp_path: Path) -> None:
    argv = ["feedback", "export", f"--workspace={large[0].folder}", f"--out={tmp_path / 'out'}"]
    process = subprocess.Popen([sys.executable, "-m", "chatwright", *argv], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    megabytes = usage.ru_maxrss / 1000
    print(f"export of {TASKS:,} tasks: {megabytes:.0f} MB, {usage.ru_utime:.0f} s of processor time")
    assert megabytes < EXPORT_MB
    with (tmp_path / "out" / "train" / "prompts.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == TASKS * 9 // 10


@pytest.mark.slow
def test_the_dashboard_costs_the_server_little(large: tuple[Workspace, str]) -> None:
    workspace, project = large
    kept, question = KeptDashboards(workspace), Question(project=project, labeller_kinds=("human",), held_out=())
    first = kept.ask(question)
    assert not hasattr(first, "progress")
    found = first.result(timeout=1500)  # type: ignore[union-attr]
    assert found.progress[0].labels >= TASKS
    began = time.process_time()
    assert kept.ask(question) is found
    spent = time.process_time() - began
    print(f"dashboard of {TASKS:,} tasks: {spent:.3f} s of the server's processor time")
    assert spent < DASHBOARD_S


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, TASKS * 8 // 10])
def test_pages_of_the_browser_are_cut_in_the_database(large: tuple[Workspace, str], offset: int) -> None:
    workspace, project = large
    for filters in (
        Filters(), Filters(project=project), Filters(project=project, state="complete", split="train", language="en"),
        Filters(project=project, labeller="labeller-3"), Filters(project=project, labeller_kind="human"),
        Filters(project=project, agreement_below=0.6),
    ):  # fmt: skip
        began = time.process_time()
        with workspace.reading() as session:
            page = browse(
                session, filters, offset=min(offset, 4900) if filters.labeller or filters.agreement_below else offset
            )
        spent = time.process_time() - began
        print(f"page at {offset}: {spent:.3f} s, {filters}")
        assert page.tasks and page.total >= 5000 and spent < PAGE_S


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["museum", "moon museum", "博物馆", "月亮", "a", "qq", "zzzz", " 51234", "museum moon whale river"]
)
def test_a_search_costs_little_whatever_it_looks_for(large: tuple[Workspace, str], text: str) -> None:
    """Common, rare and absent words, one character and many: each search is bounded, and those after it continue."""
    workspace, project = large
    for more in ({}, {"project": project, "labeller": "labeller-3"}, {"agreement_below": 0.5}, {"state": "open"}):
        began = time.process_time()
        with workspace.reading() as session:
            page = browse(session, Filters(text=text, **more))  # type: ignore[arg-type]
        spent = time.process_time() - began
        print(f"search: {spent:.3f} s, {text!r} {more}, {page.total} found, continues at {page.next_older}")
        assert spent < PAGE_S
    if text == " 51234":
        with workspace.reading() as session:
            assert [task.id for task in browse(session, Filters(text=text)).tasks] == [f"task_{51234:032x}"]


@pytest.mark.slow
def test_the_index_is_purged_in_parts_at_a_bounded_cost(large: tuple[Workspace, str]) -> None:
    workspace, _ = large
    size = (workspace.folder / DATABASE_FILE).stat().st_size
    print(f"database of {TASKS:,} tasks with the index: {size / 1e9:.2f} GB")
    with workspace.session() as session:
        task = session.scalars(select(TaskText).order_by(TaskText.seq)).first()
        assert task is not None
        task.text = ""
    began = time.process_time()
    text_search.purge(workspace)
    spent = time.process_time() - began
    print(f"purge of the index of {TASKS:,} tasks: {spent:.3f} s of processor time")
    assert spent < PURGE_S
