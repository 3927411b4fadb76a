from __future__ import annotations

import logging
from pathlib import Path

import pytest

from chatwright.errors import UsageError
from chatwright.feedback.commands import JobsConfig, run_jobs
from chatwright.serve.run import serve
from chatwright.serve.settings import ServeConfig
from chatwright.workspace import filesystem
from chatwright.workspace.filesystem import network_mount, refuse_network_sqlite


def mounts_of(tmp_path: Path, *mounts: tuple[str, str]) -> Path:
    """A file as /proc/self/mountinfo: (mount point, type) over a local root."""
    lines = ["27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw", "not a mount", ""]
    for number, (mount, kind) in enumerate(mounts):
        shown = mount.replace("\\", "\\134").replace(" ", "\\040")
        lines.append(f"{number + 30} 27 0:{number + 40} / {shown} rw,noatime - {kind} server:/x rw,vers=4.2")
    path = tmp_path / "mountinfo"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "ceph"])
def test_network_file_systems_are_found(tmp_path: Path, kind: str) -> None:
    share = tmp_path / "a share"
    mounts = mounts_of(tmp_path, (str(share), kind))
    assert network_mount(share / "new" / "chatwright.sqlite3", mounts) == (kind, str(share))
    assert network_mount(share, mounts) == (kind, str(share))
    assert network_mount(tmp_path / "a share 2", mounts) is None  # a name that only begins like the mount point


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "virtiofs", "fuse.ntfs-3g", "fuseblk"])
def test_local_file_systems_are_none(tmp_path: Path, kind: str) -> None:
    assert network_mount(tmp_path / "w", mounts_of(tmp_path, (str(tmp_path), kind))) is None


def test_the_longest_and_the_latest_mount_count(tmp_path: Path) -> None:
    inner, link = tmp_path / "inner", tmp_path / "link"
    inner.mkdir()
    link.symlink_to(inner)
    local_inside = mounts_of(tmp_path, (str(inner), "ext4"), (str(tmp_path), "nfs4"))
    assert network_mount(inner / "w", local_inside) is None and network_mount(tmp_path / "w", local_inside) is not None
    assert network_mount(link / "w", mounts_of(tmp_path, (str(inner), "nfs4"))) == ("nfs4", str(inner))
    assert network_mount(inner, mounts_of(tmp_path, (str(inner), "nfs4"), (str(inner), "ext4"))) is None
    assert network_mount(inner, tmp_path / "no such file") is None


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is on NFS, as far as the system tells."""
    found = tmp_path / "share"
    found.mkdir()
    monkeypatch.setattr(filesystem, "_MOUNTS", mounts_of(tmp_path, (str(found), "nfs4")))
    return found


def test_sqlite_there_is_refused_and_can_be_allowed(share: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder, url in ((share / "w", ""), (share.parent / "w", f"sqlite:///{share / 'other.db'}")):
        with pytest.raises(UsageError, match=r"nfs4, mounted at .*PostgreSQL .*--allow-network-sqlite"):
            refuse_network_sqlite(folder, url)
    with caplog.at_level(logging.WARNING, "chatwright.workspace"):
        refuse_network_sqlite(share / "w", allow=True)
    assert "network file system" in caplog.text
    for url in ("postgresql://user@host/name", "sqlite://", f"sqlite:///{share.parent / 'local.db'}", "no url"):
        refuse_network_sqlite(share / "w", url)


def test_serve_and_jobs_run_refuse_it_before_they_write(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHATWRIGHT_DATABASE_URL", "CHATWRIGHT_DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="nfs4"):
        serve(ServeConfig(model=("tiny=nowhere",), workspace=str(share / "w"), port=0))
    with pytest.raises(UsageError, match="nfs4"):
        run_jobs(JobsConfig(workspace=str(share / "w"), until_empty=True))
    assert not list(share.iterdir())
