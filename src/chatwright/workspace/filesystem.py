"""Keeps SQLite off network file systems: its write-ahead log needs shared memory and locks that those do not give."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from chatwright.errors import UsageError
from chatwright.workspace.database import DATABASE_FILE

log = logging.getLogger("chatwright.workspace")
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "coda", "ceph", "lustre", "gpfs", "beegfs", "glusterfs",
    "orangefs", "ocfs2", "gfs2", "davfs",
})  # fmt: skip
_NETWORK_FUSE = frozenset({
    "sshfs", "glusterfs", "ceph", "rclone", "s3fs", "gcsfuse", "davfs", "davfs2", "smbnetfs", "juicefs",
})  # fmt: skip
"""File systems in user space, without the `fuse.` before their names."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


def refuse_network_sqlite(folder: str | Path, url: str = "", *, allow: bool = False) -> None:
    """UsageError for an SQLite database on a network file system; with `allow`, a warning in the log.

    folder: of the workspace; url: of a database elsewhere, "" for the one in the folder.
    """
    path = _database_path(Path(folder), url)
    found = network_mount(path) if path is not None else None
    if found is None:
        return
    kind, mount = found
    if allow:
        log.warning("SQLite is on a network file system", extra={"fields": {"file": str(path), "type": kind}})
        return
    raise UsageError(
        f"{path}: is on a network file system ({kind}, mounted at {mount}). SQLite needs shared memory and locks that it "
        "does not give: two machines would damage the database. Use PostgreSQL (--database postgresql://user@host/name; "
        "the folder may stay there) or a folder on a local disk. --allow-network-sqlite starts all the same, for one "
        "machine alone"
    )


def network_mount(path: Path, mounts: Path | None = None) -> tuple[str, str] | None:
    """(type, mount point) of the network file system that a path is on; None on a local one, or where the system does not
    tell (other than Linux). `mounts`: a file as /proc/self/mountinfo (proc(5))."""
    try:
        lines = (mounts or _MOUNTS).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = path.resolve()
    best: tuple[str, str] | None = None
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
        longer = best is None or len(mount) >= len(best[1])  # of two at one point, the later covers the earlier
        if longer and place.is_relative_to(mount):
            best = after.split(" ")[0], mount
    return best if best is not None and _is_network(best[0]) else None


def _is_network(kind: str) -> bool:
    return kind in _NETWORK or (kind.startswith("fuse.") and kind.removeprefix("fuse.") in _NETWORK_FUSE)


def _database_path(folder: Path, url: str) -> Path | None:
    """The file of an SQLite database; None for other databases and those in memory."""
    if not url:
        return folder / DATABASE_FILE
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None  # `Workspace.open` says what is wrong with it
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))
