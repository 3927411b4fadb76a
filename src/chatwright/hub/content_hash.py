"""Versions of models: one hash for the files of a model, so that an answer can name the model that wrote it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from chatwright import hub
from chatwright.hub.store import MANIFEST, cache_folder, sha256

_KNOWN = "content-hashes.json"
_MOST_KNOWN = 4000
_ADAPTER = "adapter_config.json"


def content_hash(name_or_folder: str | Path) -> str:
    """sha256 (hex) of a model's content: of its manifest where the folder has one, as the registry of models does, else of
    the names and hashes of its files. The hash of a file is kept by path, size and time of change, and read again next time.

    The hash of an adapter includes that of its base model.

    Raises HubError and CheckpointError for what is no model.
    """
    path = hub.model_folder(name_or_folder)
    found = hub.resolve(path if path.is_dir() else name_or_folder)
    own = sha256(found / MANIFEST) if (found / MANIFEST).is_file() else _hash_of_files(found)
    if not (found / _ADAPTER).is_file():
        return own
    base = json.loads((found / _ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    return hashlib.sha256(f"{own} {content_hash(base)}".encode()).hexdigest()


def _hash_of_files(found: Path) -> str:
    files = [found] if found.is_file() else sorted(file for file in found.rglob("*") if _counts(file, found))
    base = found.parent if found.is_file() else found
    known = _read_known()
    hashes = {file.relative_to(base).as_posix(): _hash(file, known) for file in files}
    _keep_known(known)
    if found.is_file():
        (only,) = hashes.values()
        return only  # what `sha256sum` prints
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _counts(file: Path, folder: Path) -> bool:
    """True when a file is of the model: hidden ones (`.git`, locks of downloads) and texts about it are not."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.suffix not in (".md", ".lock")


def _hash(file: Path, known: dict[str, Any]) -> str:
    facts, key = file.stat(), str(file.resolve())
    stamp = [facts.st_size, facts.st_mtime_ns]
    if (entry := known.get(key)) and entry[:2] == stamp:
        return str(entry[2])
    known.pop(key, None)
    known[key] = [*stamp, sha256(file)]  # at the end: the oldest entries are forgotten first
    return str(known[key][2])


def _read_known() -> dict[str, Any]:
    try:
        found = json.loads((cache_folder() / _KNOWN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: entry for key, entry in found.items() if isinstance(entry, list) and len(entry) == 3}


def _keep_known(known: dict[str, Any]) -> None:
    """Keep the hashes for the next start. A cache that cannot be written costs time only."""
    kept = dict(list(known.items())[-_MOST_KNOWN:])
    with contextlib.suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=folder, prefix=_KNOWN)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(kept, out)
        os.replace(aside, folder / _KNOWN)
