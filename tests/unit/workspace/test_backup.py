from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from chatwright.errors import ChatwrightError, DataError, UsageError
from chatwright.serve.auth_tables import User
from chatwright.workspace.backup import MANIFEST, back_up, verify
from chatwright.workspace.commands import BackupConfig, RestoreConfig, UpgradeConfig, backup, restore, upgrade
from chatwright.workspace.database import DATABASE_FILE, Workspace
from chatwright.workspace.restore import bring_back
from workspaces import KINDS, empty_database, workspace_of


def names(workspace: Workspace) -> list[str]:
    with workspace.reading() as session:
        return list(session.scalars(select(User.name).order_by(User.name)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_of_a_workspace_in_use_comes_back(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        (workspace.folder / "api-key").write_text("secret", encoding="utf-8")
        with workspace.session() as session:
            session.add(User(name="ada", role="admin"))
        workspace.lock()  # as a running server does
        back_up(workspace, tmp_path / "backup")
        with workspace.session() as session:
            session.add(User(name="later", role="member"))
    with empty_database(kind) as url:
        bring_back(tmp_path / "backup", tmp_path / "new", url, force=False)
        with Workspace.open(tmp_path / "new", url) as restored:
            assert names(restored) == ["ada"]
        assert (tmp_path / "new" / "api-key").read_text(encoding="utf-8") == "secret"
        with pytest.raises(UsageError, match="not empty"):
            bring_back(tmp_path / "backup", tmp_path / "new", url, force=False)
        with Workspace.open(tmp_path / "new", url) as restored, restored.session() as session:
            session.add(User(name="to be replaced", role="member"))
        bring_back(tmp_path / "backup", tmp_path / "new", url, force=True)
        with Workspace.open(tmp_path / "new", url) as restored:
            assert names(restored) == ["ada"]


def test_every_damage_is_refused_by_name(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        (workspace.folder / "note").write_text("note", encoding="utf-8")
        back_up(workspace, tmp_path / "b")
    for path in (tmp_path / "b" / DATABASE_FILE, tmp_path / "b" / "files" / "note"):
        good = path.read_bytes()
        for bad in (good[:-1], bytes([good[0] ^ 1]) + good[1:], b"", None):
            path.unlink() if bad is None else path.write_bytes(bad)
            with pytest.raises(DataError, match=path.name):
                bring_back(tmp_path / "b", tmp_path / "new", "", force=False)
            assert not (tmp_path / "new").exists()
            path.write_bytes(good)
    manifest = tmp_path / "b" / MANIFEST
    good_text = manifest.read_text(encoding="utf-8")
    for bad_text in ("{}", good_text[:-5], json.dumps(json.loads(good_text) | {"format": 99})):
        manifest.write_text(bad_text, encoding="utf-8")
        with pytest.raises(ChatwrightError, match=MANIFEST):
            verify(tmp_path / "b")
    manifest.write_text(good_text, encoding="utf-8")
    assert verify(tmp_path / "b")["database"] == "sqlite"


def test_restoring_over_a_running_server_is_refused(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        back_up(workspace, tmp_path / "b")
        workspace.lock()
        with pytest.raises(UsageError, match="already running"):
            bring_back(tmp_path / "b", workspace.folder, "", force=True)
        assert names(workspace) == []


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "w")
    with pytest.raises(UsageError, match="no such workspace"):
        backup(BackupConfig(workspace=folder, out=str(tmp_path / "b")))
    Workspace.open(folder).close()
    upgrade(UpgradeConfig(workspace=folder))
    assert "--yes" in capsys.readouterr().out
    upgrade(UpgradeConfig(workspace=folder, yes=True))
    backup(BackupConfig(workspace=folder, out=str(tmp_path / "b")))
    restore(RestoreConfig(backup=str(tmp_path / "b"), workspace=str(tmp_path / "w2")))
    upgrade(UpgradeConfig(workspace=str(tmp_path / "w2")))
    assert "up to date" in capsys.readouterr().out
    with pytest.raises(UsageError, match="exists already"):
        backup(BackupConfig(workspace=folder, out=str(tmp_path / "b")))
