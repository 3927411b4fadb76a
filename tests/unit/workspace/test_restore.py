from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text

from chatwright.errors import ChatwrightError, DataError, UsageError
from chatwright.feedback import export as exporting
from chatwright.feedback import lineage
from chatwright.serve.auth_tables import User
from chatwright.serve.desk.models import entry_to_serve
from chatwright.workspace import copies, migrations
from chatwright.workspace.backup import FILES, back_up
from chatwright.workspace.commands import RestoreConfig, restore
from chatwright.workspace.database import DATABASE_FILE, Workspace
from chatwright.workspace.restore import bring_back
from workspaces import KINDS, empty_database, workspace_of


def names(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return list(session.scalars(select(User.name).order_by(User.name)))


def add(workspace: Workspace, name: str) -> None:
    with workspace.session() as session:
        # Not through the ORM: databases of earlier revisions lack columns that it writes.
        new = text("INSERT INTO users (id, name, role, created_at) VALUES (:id, :name, 'member', 0.0)")
        session.execute(new, {"id": f"user_{name}", "name": name})


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_promoted_model_is_served_from_a_workspace_restored_elsewhere(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        frozen = exporting.export(workspace, exporting.ExportFilter(), actor="lead")
        folder = workspace.folder / "models" / "a" / "final"
        folder.mkdir(parents=True)
        (folder / "MANIFEST.json").write_text("{}")
        with workspace.session() as session:
            row = lineage.register(
                session, name="a", path=folder, base="b", exports=[frozen.id], figures={}, actor="lead"
            )  # fmt: skip
            lineage.promote(session, row.id, "chat", actor="lead", reason="test", force=True)
        back_up(workspace, tmp_path / "backup")
        shutil.rmtree(workspace.folder / "models")
    bring_back(tmp_path / "backup", tmp_path / "elsewhere" / "w", "", force=False)
    with Workspace.open(tmp_path / "elsewhere" / "w") as restored:
        here = tmp_path / "elsewhere" / "w"
        assert entry_to_serve(restored, "chat=base") == f"chat={here / 'models' / 'a' / 'final'}"
        again = exporting.export(restored, exporting.ExportFilter(), actor="lead")
        assert again.id == frozen.id and again.path == here / "exports" / frozen.path.name


def test_links_are_followed_with_a_word(tmp_path: Path) -> None:
    disk = tmp_path / "large disk"
    (disk / "a").mkdir(parents=True)
    (disk / "a" / "weights").write_text("weights")
    with workspace_of("sqlite", tmp_path) as workspace:
        folder = workspace.folder
        (folder / "models").symlink_to(disk, target_is_directory=True)
        (folder / "latest").symlink_to(Path("models") / "a" / "weights")
        (folder / "nowhere").symlink_to("gone")
        os.mkfifo(folder / "pipe")
        remarks = back_up(workspace, tmp_path / "backup")
        assert [remark.split(": ")[0].rsplit("/", 1)[1] for remark in remarks] == ["latest", "models", "nowhere", "pipe"]
        assert str(disk) in remarks[1] and "gone, where nothing is" in remarks[2]
        files = tmp_path / "backup" / FILES
        assert tree(files) == {"latest": "weights", "models/a/weights": "weights"} and not (files / "models").is_symlink()
        (disk / "a" / "up").symlink_to(disk, target_is_directory=True)
        with pytest.raises(UsageError, match="a/up: is a link to a folder that it lies in"):
            back_up(workspace, tmp_path / "backup 2")
        assert not (tmp_path / "backup 2").exists() and not list(tmp_path.glob(".backup 2*"))
        with pytest.raises(UsageError, match="is in the workspace"):
            back_up(workspace, folder / "b")
    bring_back(tmp_path / "backup", tmp_path / "new", "", force=False)
    assert (tmp_path / "new" / "models" / "a" / "weights").read_text() == "weights"


def test_files_that_vanish_meanwhile_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.copy2
    with workspace_of("sqlite", tmp_path) as workspace:
        run = workspace.folder / "models" / "run"
        for step in ("step-1", "step-2"):
            (run / step).mkdir(parents=True)
            for name in ("a", "b", "c"):
                (run / step / name).write_text(step)
        (run / "state.tmp").write_text("state")

        def copy2(source: Path, target: Path) -> None:
            if source == run / "step-1" / "b":  # pruned, while a newer checkpoint appears
                shutil.rmtree(run / "step-1")
                shutil.copytree(run / "step-2", run / "step-3")
            if source == run / "state.tmp":
                source.rename(run / "state")
            real(source, target)

        monkeypatch.setattr(copies.shutil, "copy2", copy2)
        assert back_up(workspace, tmp_path / "backup") == []
    copied = tree(tmp_path / "backup" / FILES / "models" / "run")
    assert sorted(copied) == sorted([f"step-{n}/{name}" for n in (2, 3) for name in "abc"] + ["state"])


def test_rows_of_a_backup_find_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is copied first: what is registered while files are copied is not in the copy."""
    real = shutil.copy2
    with workspace_of("sqlite", tmp_path) as workspace:
        (workspace.folder / "note").write_text("x")

        def copy2(source: Path, target: Path) -> None:
            add(workspace, "registered while files are copied")
            real(source, target)

        monkeypatch.setattr(copies.shutil, "copy2", copy2)
        back_up(workspace, tmp_path / "backup")
    bring_back(tmp_path / "backup", tmp_path / "new", "", force=False)
    with Workspace.open(tmp_path / "new") as restored:
        assert names(restored) == []


def test_one_server_per_database(tmp_path: Path) -> None:
    with workspace_of("postgresql", tmp_path) as first:
        url = first.engine.url.render_as_string(hide_password=False)
        first.lock()
        with Workspace.open(tmp_path / "another folder", url) as second:
            with pytest.raises(UsageError, match="already running on this database"):
                second.lock()
            second.close()
        add(first, "ada")
        back_up(first, tmp_path / "backup")
        add(first, "later")
        with pytest.raises(UsageError, match="already running"):
            bring_back(tmp_path / "backup", tmp_path / "third", url, force=True)
        assert names(first) == ["ada", "later"] and not (tmp_path / "third").exists()
        first.close()
        with Workspace.open(tmp_path / "another folder", url) as second:
            second.lock()
            assert names(second) == ["ada", "later"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_there_is_kept(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        url = "" if kind == "sqlite" else workspace.engine.url.render_as_string(hide_password=False)
        folder = workspace.folder
        add(workspace, "ada")
        (folder / "note").write_text("first")
        back_up(workspace, tmp_path / "backup")
        add(workspace, "bob")
        (folder / "note").write_text("second")
        back_up(workspace, tmp_path / "backup 2")
        with workspace.session() as session:
            session.execute(text("CREATE TABLE later (user_id VARCHAR(64) REFERENCES users (id))"))
        workspace.close()
        old = bring_back(tmp_path / "backup", folder, url, force=True)
        assert old is not None and old.parent == folder / migrations.BACKUPS
        with Workspace.open(folder, url) as restored:
            assert names(restored) == ["ada"] and (folder / "note").read_text() == "first"
        assert (old / "note").read_text() == "second"
        kept = old / (DATABASE_FILE if kind == "sqlite" else "database.postgresql")
        restore(RestoreConfig(backup=str(kept), workspace=str(folder), database=url, force=True))  # the database only
        with Workspace.open(folder, url) as restored:
            assert names(restored) == ["ada", "bob"] and (folder / "note").read_text() == "first"


def test_an_upgrade_can_be_undone(tmp_path: Path) -> None:
    from alembic import command

    with Workspace.open(tmp_path / "w") as workspace:
        with workspace.engine.begin() as connection:
            command.upgrade(migrations.alembic_config(connection), "0001")
        add(workspace, "ada")
        copy = migrations.upgrade(workspace)
        add(workspace, "bob")
    assert copy is not None
    bring_back(copy, tmp_path / "w", "", force=True)
    with Workspace.open(tmp_path / "w") as workspace:
        assert migrations.current(workspace) == "0001" and names(workspace) == ["ada"]
    for bad in (tmp_path / "w", tmp_path / "nothing", tmp_path / "w" / "serve.lock"):
        with pytest.raises(ChatwrightError):
            bring_back(bad, tmp_path / "new", "", force=True)
    (tmp_path / "empty.sqlite3").write_bytes(b"")
    with pytest.raises(DataError, match="no database"):
        bring_back(tmp_path / "empty.sqlite3", tmp_path / "new", "", force=True)
    assert not (tmp_path / "new").exists()


# Runs restores in forked processes that are killed at the n-th step which changes the folder or the database, for n = 1, 2,
# ... until one ends by itself. After each: the workspace is what it was or is refused, and a second restore completes.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from chatwright.errors import UsageError
from chatwright.workspace import restore
from chatwright.workspace.database import Workspace
from sqlalchemy import text

backup, old, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def state(folder):
    with Workspace.open(folder, url) as workspace, workspace.engine.connect() as connection:
        name = connection.scalar(text("SELECT MAX(name) FROM users"))
    return name, (folder / "note").read_text(), (folder / "only-" ).with_name(f"only-{name}").exists()

def kill_at(number):
    left = [number]
    def killing(real, after=False):
        def call(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                if after:
                    real(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return call
    if not url:
        restore.sync, restore.shutil.copytree = killing(restore.sync), killing(shutil.copytree, after=True)
        Path.unlink = killing(Path.unlink)
    Path.rename = killing(Path.rename)
    restore.replace_postgres = killing(killing(restore.replace_postgres), after=True)

refused, n = 0, 0
while True:
    n += 1
    folder = old.with_name(f"attempt-{n}")
    shutil.copytree(old, folder)
    child = os.fork()
    if not child:
        kill_at(n)
        restore.bring_back(backup, folder, url, force=True)
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    seen = ("refused",)
    try:
        seen = state(folder)
        assert seen in (("old", "old", True), ("new", "new", True)), seen
        assert killed or seen[0] == "new", "the restore did not complete"
    except UsageError as error:
        assert killed and "interrupted" in str(error), error
        refused += 1
    restore.bring_back(backup, folder, url, force=True)
    assert state(folder) == ("new", "new", True)
    kept = [path.read_text() for path in (folder / "backups").rglob("note")]
    assert not killed or seen[0] == "new" or "old" in kept, kept
    assert not list(folder.glob(".restore-*")) and not (folder / "only-old").exists()
    if not killed or url and n == 3:  # PostgreSQL: before and after its transaction, and among the files
        break
    if url:
        restore.bring_back(backup.with_name("of-old"), folder, url, force=True)
print(n, refused)
"""


@contextmanager
def old_and_new(kind: str, folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """(a backup with "new" in it, a workspace with "old" in it, its database)."""
    with empty_database(kind) as url, Workspace.open(folder / "w", url) as workspace:
        migrations.prepare(workspace)
        for name, backup in (("new", "of-new"), ("old", "of-old")):
            with workspace.session() as session:
                session.execute(text("DELETE FROM users"))
            add(workspace, name)
            (folder / "w" / "note").write_text(name)
            (folder / "w" / f"only-{name}").write_text(name)
            back_up(workspace, folder / backup)
            (folder / "w" / "only-new").unlink(missing_ok=True)
        workspace.close()
        yield folder / "of-new", folder / "w", url


@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_that_is_killed_loses_nothing(kind: str, tmp_path: Path) -> None:
    with old_and_new(kind, tmp_path) as (backup, old, url):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(backup), str(old), url], capture_output=True, text=True, timeout=110
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps, refused = map(int, done.stdout.split()[-2:])
    assert (steps, refused) == (3, 3) if url else steps > 8 and refused > 3
