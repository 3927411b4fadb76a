"""Withdrawals outlive a restored backup, reach imported rows and run folders, and name what remains."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from chatwright import cli
from chatwright.errors import DataError
from chatwright.feedback import consent, jobs, lineage, withdrawals
from chatwright.feedback import export as exporting
from chatwright.feedback.commands import opened
from chatwright.feedback.export import ExportFilter
from chatwright.feedback.importing import ImportSettings, import_rows
from chatwright.feedback.jobs_tables import JobRow
from chatwright.feedback.projects import default_project
from chatwright.feedback.purge import WITHDRAWN_MESSAGE, purge
from chatwright.feedback.tables import LabelEvent, Payload, TaskRow
from chatwright.feedback.tasks import NewTask, add_task
from chatwright.records import user
from chatwright.workspace.backup import WITHDRAWALS, back_up
from chatwright.workspace.commands import RestoreConfig, restore
from chatwright.workspace.database import Workspace
from chatwright.workspace.restore import bring_back
from workspaces import KINDS, workspace_of


@pytest.fixture(params=KINDS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with workspace_of(request.param, tmp_path) as made:
        if not made.is_sqlite:
            monkeypatch.setenv("CHATWRIGHT_DATABASE_URL", made.engine.url.render_as_string(hide_password=False))
        yield made


def rows(workspace: Workspace, *people: str) -> None:
    """A ranking for each person."""
    made = [
        {"prompt": f"{name} asks of zircon?", "completions": [f"{name} one", f"{name} two"], "ranking": "A>B",
         "labeller_kind": "human", "user": name}
        for name in people
    ]  # fmt: skip
    with workspace.session() as session:
        project = default_project(session)
    import_rows(workspace, project, lambda: list(enumerate(made, 1)), "f", ImportSettings(held_out=0.0), actor="lead")


def texts(workspace: Workspace) -> str:
    with workspace.reading() as session:
        return json.dumps([content for content in session.scalars(select(Payload.content)) if content is not None])


def subjects(workspace: Workspace, name: str) -> tuple[str, str]:
    return consent.imported_subjects(consent.subject_key(workspace.folder), name)


def withdraw(workspace: Workspace, name: str) -> int:
    wanted = subjects(workspace, name)
    withdrawals.note(workspace, wanted)
    with workspace.session() as session:
        return withdrawals.erase(session, wanted, actor="root")


def test_imported_people_are_known_by_a_keyed_digest_only(workspace: Workspace) -> None:
    rows(workspace, "eve", "bob")
    with workspace.reading() as session:
        kept = set(session.scalars(select(TaskRow.subject)))
    assert kept == {subjects(workspace, "eve")[0], subjects(workspace, "bob")[0]}
    assert hashlib.sha256(b"import:eve").hexdigest()[:32] not in kept


def test_the_command_erases_an_imported_person_also_from_rows_of_earlier_versions(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(workspace, "eve", "bob")
    with workspace.session() as session:
        old = hashlib.sha256(b"import:eve").hexdigest()[:32]
        task = NewTask(project=default_project(session).id, kind="demonstrate", messages=user("eve of old"), subject=old)
        add_task(session, task, actor="lead")
    frozen = exporting.export(workspace, ExportFilter(), actor="lead", out=workspace.folder.parent / "copy")
    argv = ["feedback", "withdraw", "--workspace", str(workspace.folder), "--imported-user"]
    assert cli.main([*argv, " "]) == 2
    assert cli.main([*argv, "eve"]) == 0
    said = capsys.readouterr()
    assert "erased: 4 texts; deleted: 1 exports" in said.out and not frozen.path.exists()
    assert "remains: copy of export" in said.err and "copy" in said.err
    assert "eve" not in texts(workspace) and "bob asks" in texts(workspace)
    rows(workspace, "eve")  # the same file again
    assert "eve" not in texts(workspace)
    assert cli.main([*argv, "nobody"]) == 0 and "erased: 0 texts" in capsys.readouterr().out


def test_a_restored_backup_does_not_bring_withdrawn_texts_back(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(workspace, "eve", "bob")
    back_up(workspace, tmp_path / "backup")
    assert withdraw(workspace, "eve") == 3
    assert "eve asks" not in texts(workspace)
    url = "" if workspace.is_sqlite else workspace.engine.url.render_as_string(hide_password=False)
    workspace.engine.dispose()
    restore(RestoreConfig(backup=str(tmp_path / "backup"), workspace=str(workspace.folder), database=url, force=True))
    assert "are applied again" in capsys.readouterr().out
    with Workspace.open(workspace.folder, url) as again:
        assert "eve asks" in texts(again)
    with opened(str(workspace.folder), url) as again:
        assert "eve asks" not in texts(again) and "bob asks" in texts(again)
        with again.reading() as session:
            closed = session.scalars(select(TaskRow.subject).where(TaskRow.state == "closed")).all()
        assert closed == [subjects(again, "eve")[0]]
        # What the same person gives afterwards stays.
        with again.session() as session:
            task = NewTask(
                project=default_project(session).id, kind="demonstrate", messages=user("eve agrees now"),
                subject=subjects(again, "eve")[0],
            )  # fmt: skip
            fresh = add_task(session, task, actor="lead")
        assert withdrawals.apply_again(again) == 0 and "eve agrees now" in texts(again)
        with again.reading() as session:
            assert session.get_one(TaskRow, fresh).state == "open"
            events = session.scalars(select(LabelEvent.kind).where(LabelEvent.kind == "content.withdrawn")).all()
        assert events == ["content.withdrawn"]


def test_the_journal_of_the_old_workspace_counts_in_a_new_one(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        rows(workspace, "eve", "bob")
        withdraw(workspace, "bob")
        back_up(workspace, tmp_path / "backup")
        withdraw(workspace, "eve")
        new = tmp_path / "new"
        new.mkdir()
        shutil.copy(workspace.folder / WITHDRAWALS, new / WITHDRAWALS)
    bring_back(tmp_path / "backup", new, "", force=False)
    assert len((new / WITHDRAWALS).read_text().splitlines()) == 2
    with opened(str(new), "") as again:
        assert texts(again) == "[]"


def test_a_cut_off_line_of_the_journal_is_no_withdrawal_and_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / WITHDRAWALS).write_text('{"at": 1.0, "subjects": ["x"]}\n{"at": 2.0, "sub')
    assert [one.subjects for one in withdrawals.noted(tmp_path)] == [("x",)]
    (tmp_path / WITHDRAWALS).write_text('broken\n{"at": 1.0, "subjects": ["x"]}\n')
    with pytest.raises(DataError, match=r"withdrawals\.jsonl:1: is damaged"):
        list(withdrawals.noted(tmp_path))


def trained(workspace: Workspace, name: str = "") -> tuple[str, Path]:
    """(id, run folder) of a model that was trained on everything so far, as `retrain` leaves it."""
    frozen = exporting.export(workspace, ExportFilter(), actor="lead")
    run = workspace.folder / "models" / f"{frozen.id[:8]}-{name or 'x'}"
    final = run / "6-ppo" / "final"
    final.mkdir(parents=True)
    for path in ("6-ppo/final/model.safetensors", "6-ppo/final/tokenizer.json", "6-ppo/metrics.jsonl", "6-ppo/result.json"):
        (run / path).write_text("{}")
    (final / "MANIFEST.json").write_text('{"files": {"model.safetensors": {}}}')
    (run / "6-comparison").mkdir()
    for path in ("questions.jsonl", "6-ppo/rollouts.jsonl", "6-comparison/serving-sampled.jsonl", "report.html"):
        (run / path).write_text("eve asks of zircon?")
    listed = {"final/model.safetensors": {"bytes": 2}, "rollouts.jsonl": {"bytes": 3}}
    (run / "6-ppo" / "MANIFEST.json").write_text(json.dumps({"files": listed, "kind": "ppo"}))
    with workspace.session() as session:
        row = lineage.register(session, name=name, path=final, base="b", exports=[frozen.id], figures={}, actor="lead")
        return row.id, run


def test_a_run_loses_its_texts_and_keeps_its_weights(workspace: Workspace) -> None:
    rows(workspace, "eve", "bob")
    taught, run = trained(workspace)
    untouched = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in (".safetensors", ".json")}
    half = workspace.folder / "models" / f"{run.name[:8]}-half"  # of a run that was not finished
    (half / "1-sft").mkdir(parents=True)
    (half / "questions.jsonl").write_text("eve asks of zircon?")
    other = workspace.folder / "models" / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("eve asks of zircon?")
    assert purge(workspace).files == ()
    withdraw(workspace, "eve")
    purged = purge(workspace)
    assert len(purged.files) == 5 and len(purged.exports) == 1
    left = b"".join(path.read_bytes() for folder in (run, half) for path in folder.rglob("*") if path.is_file())
    assert b"zircon" not in left and (other / "notes.txt").exists()
    manifest = json.loads((run / "6-ppo" / "MANIFEST.json").read_text())
    assert manifest == {"files": {"final/model.safetensors": {"bytes": 2}}, "kind": "ppo"}
    for path, content in untouched.items():
        assert path.name == "MANIFEST.json" or path.read_bytes() == content
    assert purge(workspace) == type(purged)()
    with workspace.reading() as session:
        mine = withdrawals.remains(workspace, session, subjects(workspace, "eve"))
        assert [row.id for row in mine.models] == [taught] and len(mine.exports) == 1
        others = withdrawals.remains(workspace, session, subjects(workspace, "bob"))
        assert others == withdrawals.Remains()


def test_jobs_that_train_on_withdrawn_texts_end(workspace: Workspace) -> None:
    rows(workspace, "eve")
    frozen = exporting.export(workspace, ExportFilter(), actor="lead")
    path = frozen.path.relative_to(workspace.folder.absolute()).as_posix()
    with workspace.session() as session:
        for _ in range(3):
            jobs.enqueue(session, "retrain", {}, "lead")
        running, given_back = (jobs.take(session, "w", ["retrain"]) for _ in range(2))
        assert running is not None and given_back is not None
        for lease in (running, given_back):
            assert jobs.effect(session, lease, "planned", export=path)
        jobs.give_back(session, given_back)
    withdraw(workspace, "eve")
    purge(workspace)
    with workspace.session() as session:
        found = {row.id: row for row in session.scalars(select(JobRow))}
        assert sorted(row.state for row in found.values()) == ["cancelled", "queued", "running"]
        assert found[given_back.job].message == WITHDRAWN_MESSAGE and found[given_back.job].state == "cancelled"
        assert jobs.renew(session, running) is True and jobs.told(session, running.job) == WITHDRAWN_MESSAGE


def test_copies_in_the_workspaces_backups_are_named(workspace: Workspace) -> None:
    rows(workspace, "eve")
    copies = workspace.folder / "backups"
    copies.mkdir(exist_ok=True)
    (copies / "before-0004.sqlite3").write_text("x")
    withdraw(workspace, "eve")
    with workspace.reading() as session:
        assert "before-0004.sqlite3" in withdrawals.remains(workspace, session, subjects(workspace, "eve")).backups
