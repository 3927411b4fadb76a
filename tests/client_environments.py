"""Environments of other people's clients: each in a folder of its own, made once per set of versions, kept in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "clients" / "scripts"


@dataclass(frozen=True)
class Server:
    """A server under test. Models: `tiny` (real, random weights), `scripted` ("Hello there"), `caller` (calls `add`), `json`
    (an object)."""

    url: str
    key: str
    app: Any


def cache() -> Path:
    """Where environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatwright-clients"


def _once(name: str, versions: str, make: Callable[[Path], None]) -> Path:
    """The folder for `versions`, made by `make` if it is not there; processes beside one another wait."""
    folder = cache() / f"{name}-{hashlib.sha256(f'{sys.version} {versions}'.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "complete").touch()
    return folder


def python(name: str, *requirements: str, without: tuple[str, ...] = (), timeout_s: float = 1800) -> Path:
    """The interpreter of an environment that holds `requirements` ("name==version"), `without` some they bring along."""

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
        pip = [folder / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        subprocess.run(pip, check=True, timeout=timeout_s)
        if without:
            subprocess.run([*pip[:3], "uninstall", "-q", "-y", *without], check=True, timeout=120)

    return _once(name, " ".join((*requirements, *(f"-{one}" for one in without))), make) / "venv/bin/python"


def node(name: str, *packages: str) -> Path:
    """A folder whose node_modules hold `packages` ("name@version")."""

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n', encoding="utf-8")
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts", *packages]
        subprocess.run(npm, cwd=folder, check=True, timeout=600)

    return _once(name, " ".join(packages), make)


def run(command: list[str | Path], *, cwd: Path | None = None, timeout_s: float = 110, **env: str) -> str:
    """What a client printed; its whole output when it failed."""
    # PYTHONPATH of the tests must not reach another environment.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env={**kept, **env}, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
    return done.stdout
