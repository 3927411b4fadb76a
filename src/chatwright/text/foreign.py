"""A tokenizer.json of unknown origin is tried in a process of its own before it is trusted.

Inside the Rust library a file can panic, take all memory, or never come back (a regular expression that backtracks
exponentially), and while it runs no Python code does: neither Ctrl-C nor a thread could stop it. What passed is
remembered by its hash.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chatwright.errors import ModelError
from chatwright.hub.store import MANIFEST, cache_folder, sha256

TIMEOUT_S = 30.0
MEMORY_BYTES = 4 * 2**30
_TRIAL = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
except (ImportError, ValueError, OSError):
    pass
from tokenizers import Tokenizer
rust = Tokenizer.from_str(open(sys.argv[1], encoding="utf-8-sig").read())
for text in ("Why is the sky blue? 为什么天是蓝的？ \\U0001f34e 12345", "a" * 3000 + "!", " " * 3000 + "x", "1" * 3000,
             "\\n" * 3000, "!?" * 1500, "aB" * 1500, "é\\u0301" * 1000):
    rust.decode(rust.encode(text, add_special_tokens=False).ids)
"""


def check_foreign(folder: Path, *, timeout_s: float = TIMEOUT_S) -> None:
    """Raise ModelError when the tokenizer.json in `folder` crashes or does not come back within `timeout_s` seconds.

    Folders with a manifest of ours, and files that passed before, are not tried again.
    """
    file = folder / "tokenizer.json"
    ours = any((place / MANIFEST).is_file() for place in (folder, folder.parent)) and folder.parent.parent.name != "hub"
    if ours or not file.is_file():
        return
    passed = cache_folder() / "tokenizers" / sha256(file)
    if passed.exists():
        return
    command = [sys.executable, "-c", _TRIAL, str(file), str(MEMORY_BYTES)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{file}: the tokenizer did not come back within {timeout_s:g} s from a few thousand characters, so it is not "
            "used. Take it from the model's original source."
        ) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ModelError(f"{file}: is not a usable tokenizer: {said[-1][:300] if said else f'exit code {done.returncode}'}")
    passed.parent.mkdir(parents=True, exist_ok=True)
    passed.touch()
