"""`chatwright feedback merge`, and exports that are deleted after a withdrawal, through the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from chatwright import cli
from chatwright.feedback import export as exporting
from chatwright.feedback import lineage, store
from chatwright.feedback.export import ExportFilter
from chatwright.feedback.jobs_tables import ExportRow
from chatwright.feedback.tables import MergedRow, TaskRow
from chatwright.workspace.database import Workspace
from desk_data import label, project, ranked
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as made:
        if not made.is_sqlite:
            monkeypatch.setenv("CHATWRIGHT_DATABASE_URL", made.engine.url.render_as_string(hide_password=False))
        yield made


def orders(workspace: Workspace) -> dict[str, str]:
    with workspace.reading() as session:
        return {row.task_id: row.order for row in session.scalars(select(MergedRow))}


def run(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    code = cli.main(list(args))
    said = capfd.readouterr()
    assert code == 0, said.err
    return " ".join((said.out + said.err).split())


def test_merge_says_what_was_merged_and_what_went_to_adjudication(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    with workspace.session() as session:
        first, second = project(session, "one", adjudicate_below=0.0), project(session, "two")
        nearly = ranked(session, first, {"ann": "A>B>C", "ben": "A>B>C", "cai": "A>C>B"})
        torn = ranked(session, second, {"ann": "A>B", "ben": "B>A"})
        sure = ranked(session, second, {"ann": "A>B", "ben": "A>B"})
    folder = f"--workspace={workspace.folder}"
    said = run(capfd, "feedback", "merge", folder, "--project", "one", "--adjudicate-below", "1")
    assert "one (ranked_pairs): 0 merged, 1 sent to an adjudicator" in said and "two" not in said
    said = run(capfd, "feedback", "merge", folder)
    assert "one (ranked_pairs): 0 merged, 0 sent to an adjudicator, 1 waiting" in said
    assert "two (ranked_pairs): 1 merged, 1 sent to an adjudicator" in said and orders(workspace) == {sure: "A>B"}
    with workspace.session() as session:
        for task in session.scalars(select(TaskRow).where(TaskRow.of_task.in_([nearly, torn]))).all():
            label(session, task.id, "lead", "A>B>C" if task.of_task == nearly else "A=B")
    assert orders(workspace) == {sure: "A>B", nearly: "A>B>C", torn: "A=B"}


@pytest.mark.parametrize("method", ["borda", "bradley_terry", "plackett_luce"])
def test_the_method_is_chosen(method: str, workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    with workspace.session() as session:
        mine = project(session)
        made = ranked(session, mine, {"ann": "A>B>C", "ben": "A>B>C"})
    said = run(capfd, "feedback", "merge", f"--workspace={workspace.folder}", "--method", method)
    assert f"desk ({method}): 1 merged" in said and orders(workspace) == {made: "A>B>C"}
    with workspace.reading() as session:
        assert session.get_one(MergedRow, made).method == method


def test_what_cannot_be_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["feedback", "merge", f"--workspace={tmp_path}", "--adjudicate-below", "1.5"]) == 2
    assert "at most 1" in capfd.readouterr().err
    assert cli.main(["feedback", "merge", f"--workspace={tmp_path / 'none'}"]) == 2
    assert "no such workspace" in capfd.readouterr().err


def test_exports_with_withdrawn_texts_are_deleted_when_asked(
    workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with workspace.session() as session:
        mine = project(session)
        ranked(session, mine, {"ann": "A>B"}, text="of nobody")
    clean = exporting.export(workspace, ExportFilter(), actor="lead")
    with workspace.session() as session:
        ranked(session, mine, {"ann": "B>A"}, text="eve's words", subject="eve")
    marked = exporting.export(workspace, ExportFilter(), actor="lead")
    assert b"eve's words" in b"".join(path.read_bytes() for path in marked.path.rglob("*.jsonl"))
    left = workspace.folder / "exports" / ".purged-cut-off"
    left.mkdir()
    with workspace.session() as session:
        store.erase(session, "eve", actor="root")
    command = ("feedback", "export", f"--workspace={workspace.folder}")
    kept = run(capfd, *command, f"--out={tmp_path / 'a'}")
    assert "deleted" not in kept and marked.path.is_dir()
    said = run(capfd, *command, f"--out={tmp_path / 'b'}", "--purge-withdrawn")
    assert said.count("deleted:") == 1 and f"deleted: export {marked.id}" in said
    assert not marked.path.exists() and clean.path.is_dir() and not left.exists()
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert b"of nobody" in everything and b"eve's words" not in everything
    with workspace.reading() as session:
        assert session.get_one(ExportRow, marked.id).counts["train"]  # known still, and marked
        assert lineage.withdrawn(session).exports == {marked.id: 3}  # a prompt and two answers
