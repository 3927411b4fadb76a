"""The cache on disk: where it is, one process at a time, written aside and renamed, hashed and checked."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chatwright.errors import HubError

MANIFEST = "MANIFEST.json"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/chatwright`, or `~/.cache/chatwright`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "chatwright"


def offline() -> bool:
    """Whether CHATWRIGHT_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    names = ("CHATWRIGHT_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on") for name in names)


def say(line: str, *, end: str = "\n") -> None:
    """One line of progress on stderr; `end="\\r"` lines are only shown on a terminal, where the next replaces them."""
    if end == "\n" or sys.stderr.isatty():
        print(f"{line:<78}" if sys.stderr.isatty() else line, end=end, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(key: str) -> Iterator[None]:
    """Hold the cache lock named `key`; other processes wait. The system lets go of it when a process dies."""
    folder = cache_folder() / "locks"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{key}.lock", "a+b")  # noqa: SIM115 - closed below, after the lock is given back
    try:
        _lock(file.fileno(), key)
        yield
    finally:
        file.close()


def _lock(descriptor: int, key: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        getattr(msvcrt, "locking")(descriptor, getattr(msvcrt, "LK_LOCK"), 1)  # noqa: B009 - unknown to mypy on Linux
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another process that is preparing {key}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def staging(final: Path, *, num_bytes: int = 0) -> Iterator[Path]:
    """A folder beside `final` to write in; on success it is flushed to disk and renamed to `final`, else removed.

    The caller holds a lock for `final`: what killed processes left beside it is removed. Raises HubError when
    `num_bytes` do not fit on the disk, before anything is written.
    """
    with disk_errors(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        for leftover in final.parent.glob(f".{glob.escape(final.name)}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        check_space(final.parent, num_bytes)
        stage = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            yield stage
            flush(stage)
            if final.exists():
                shutil.rmtree(final)
            os.rename(stage, final)
            flush_folder(final.parent)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def check_space(folder: Path, num_bytes: int) -> None:
    """OSError (disk full) when `num_bytes` more do not fit, before anything is written."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise OSError(errno.ENOSPC, f"{num_bytes / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a HubError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot be written"
        raise HubError(
            f"{folder}: {what}: {error.strerror}. Make room, or set XDG_CACHE_HOME to a folder elsewhere."
        ) from error


def flush(folder: Path) -> None:
    """fsync every file of a folder, then the folder."""
    for file in folder.rglob("*"):
        if file.is_file():
            with open(file, "rb") as done:
                os.fsync(done.fileno())
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """fsync a folder, so that renames in it last (a no-op where folders cannot be opened)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """MANIFEST.json: size and sha256 of every file of `folder`, and what it was made from."""
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    text = json.dumps({"about": dict(about), "files": files}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest ("file: reason"), or None."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, facts in files.items():
            if (folder / name).stat().st_size != facts["bytes"]:
                return f"{name}: {(folder / name).stat().st_size} bytes instead of {facts['bytes']}"
            if sha256(folder / name) != facts["sha256"]:
                return f"{name}: its sha256 is not the recorded one"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name}: missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST}: unreadable: {error}"
    return None
