"""Models on a Hugging Face hub: `owner/name` -> a folder of safetensors and tokenizer files (or with the repository's only
GGUF file), `owner/name/file.gguf` -> that file; both may be followed by `@revision`.

A snapshot is kept under its commit. What a name meant when it was fetched stays until `chatwright models pull` asks
again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chatwright.errors import HubError
from chatwright.hub.store import (
    MANIFEST,
    cache_folder,
    check_space,
    damage,
    disk_errors,
    flush,
    flush_folder,
    locked,
    offline,
    say,
    write_manifest,
)
from chatwright.hub.transfer import Expected, download, endpoint, get_json, mismatch

_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
_NAME = re.compile(
    r"^(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(/(?P<file>[\w.-]{1,160}\.gguf))?(@(?P<revision>[\w./-]{1,100}))?$", re.ASCII
)
_WEIGHTS = re.compile(r"^(model|model-\d{5}-of-\d{5}|adapter_model)\.safetensors$")
_INDEX = "model.safetensors.index.json"
_FILES = {
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
}


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file of a snapshot."""

    name: str
    """File name; files in sub-folders are not fetched."""
    expected: Expected
    """Size and hash, as far as the hub says."""


@dataclass(frozen=True)
class _Place:
    repo: str
    revision: str
    file: str
    """The one file that was asked for (GGUF); "": the model's folder."""

    @property
    def name(self) -> str:
        return f"{self.repo}/{self.file}" if self.file else self.repo

    @property
    def folder(self) -> Path:
        return cache_folder() / "hub" / self.name.replace("/", "--")

    def within(self, snapshot: Path) -> Path:
        return snapshot / self.file if self.file else snapshot

    @property
    def reference(self) -> Path:
        return self.folder / "refs" / self.revision.replace("/", "--")

    def cached(self) -> Path | None:
        """The snapshot that the revision named when it was fetched, if it is still what was written."""
        try:
            commit = self.reference.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        snapshot = self.folder / commit
        if not _is_commit(commit) or not snapshot.is_dir():
            return None
        wrong = damage(snapshot)
        if wrong is not None:
            say(f"{snapshot}: damaged ({wrong}); it has to be fetched again")
        return snapshot if wrong is None else None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A hub model in the cache."""

    source: str
    """owner/name@revision it was fetched as."""
    folder: Path
    """Where it lies."""
    num_bytes: int
    """Size of all its files."""


def cached_snapshots() -> list[Snapshot]:
    """Every hub model in the cache, by name."""
    found = []
    for file in sorted((cache_folder() / "hub").glob(f"*/*/{MANIFEST}")):
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            source, facts = str(manifest["about"]["source"]), manifest["files"].values()
            found.append(Snapshot(source=source, folder=file.parent, num_bytes=sum(fact["bytes"] for fact in facts)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # `fetch` repairs it
    return found


def is_remote_name(name: str) -> bool:
    """Whether `name` has the form owner/name or owner/name/file.gguf, with or without @revision."""
    match = _NAME.match(name)
    return match is not None and not any(part.strip(".") == "" for part in match["repo"].split("/"))


def is_cached_name(name: str) -> bool:
    """True when the model of a name that `is_remote_name` takes is on disk."""
    return _place(name).cached() is not None


def _place(name: str) -> _Place:
    match = _NAME.match(name)
    assert match is not None
    return _Place(match["repo"], match["revision"] or "main", match["file"] or "")


def fetch(name: str, *, refresh: bool = False) -> Path:
    """The snapshot folder of a hub model, or the GGUF file in it that was named, downloaded if it is not in the cache;
    `refresh` asks the hub for a newer one.

    Raises HubError: offline, unreachable, refused (401, 403), not found (404), wrong content, disk full.
    """
    place = _place(name)
    cached = place.cached()
    if cached is not None and (not refresh or offline()):
        return place.within(cached)
    if offline():
        raise HubError(
            f"model {name}: not in the cache ({place.folder}) and the network is switched off by CHATWRIGHT_OFFLINE or "
            "HF_HUB_OFFLINE. Unset it once, or give --model a folder."
        )
    with locked(place.folder.name):
        cached = place.cached()
        return place.within(cached if cached is not None and not refresh else _snapshot(place))


def _snapshot(place: _Place) -> Path:
    commit, files = _listing(place)
    final = place.folder / commit
    with disk_errors(place.folder):
        if not final.is_dir() or damage(final) is not None:
            stage = place.folder / f".partial-{commit}"
            for leftover in set(place.folder.glob(".partial-*")) - {stage}:
                shutil.rmtree(leftover, ignore_errors=True)
            stage.mkdir(parents=True, exist_ok=True)
            _download_all(place, commit, files, stage)
            about = {"source": f"{place.name}@{place.revision}", "commit": commit}
            write_manifest(stage, about)
            flush(stage)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(stage, final)
            flush_folder(place.folder)
        place.reference.parent.mkdir(exist_ok=True)
        aside = place.reference.with_name(f".{place.reference.name}.tmp")
        aside.write_text(commit, encoding="ascii")
        os.replace(aside, place.reference)
    return final


def _listing(place: _Place) -> tuple[str, list[RemoteFile]]:
    """(commit, files to fetch) of a revision."""
    address = f"{endpoint()}/api/models/{place.repo}/revision/{quote(place.revision, safe='')}?blobs=true"
    answer = get_json(address)
    try:
        commit = answer["sha"]
        siblings = {entry["rfilename"]: entry for entry in answer["siblings"]}
    except (KeyError, TypeError) as error:
        raise HubError(f"{address}: the answer names no commit and files; is HF_ENDPOINT a hub?") from error
    if not isinstance(commit, str) or not _is_commit(commit):
        raise HubError(f"{address}: the answer names the commit {commit!r}, which is none")
    ggufs = sorted(name for name in siblings if name.endswith(".gguf") and "/" not in name)
    if place.file:
        if place.file not in siblings:
            raise HubError(f"model {place.repo}: has no {place.file}; its .gguf files: {', '.join(ggufs) or 'none'}")
        parts = [name for name in ggufs if split_key(name) == split_key(place.file)]
        return commit, [RemoteFile(name=name, expected=_expected(siblings[name])) for name in parts]
    wanted = [name for name in siblings if name in _FILES or name == _INDEX or _WEIGHTS.match(name)]
    if _INDEX in siblings and "model.safetensors" in wanted:
        wanted.remove("model.safetensors")  # some repositories hold both forms
    if not any(_WEIGHTS.match(name) for name in wanted) and len({split_key(name) for name in ggufs}) == 1:
        wanted = ggufs
    elif not any(_WEIGHTS.match(name) for name in wanted):
        kinds = sorted({Path(name).suffix for name in siblings if Path(name).suffix in (".bin", ".pt", ".pth")})
        there = f"; it has {', '.join(kinds)} files, which are not read" if kinds else ""
        if ggufs:
            there = f"; name one of its GGUF files: {', '.join(f'{place.repo}/{name}' for name in ggufs[:4])}"
        raise HubError(f"model {place.repo}: has no model.safetensors{there}")
    return commit, [RemoteFile(name=name, expected=_expected(siblings[name])) for name in sorted(wanted)]


def split_key(name: str) -> str:
    """A name that all parts of a split GGUF file share (`NAME-00001-of-00003.gguf`); of any other file its own."""
    return _PART.sub(r"-of-\1.gguf", name)


def _is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None


def _expected(entry: dict[str, Any]) -> Expected:
    large = entry.get("lfs")
    facts: dict[str, Any] = large if isinstance(large, dict) else entry
    size, sha256, blob = facts.get("size"), facts.get("sha256"), entry.get("blobId")
    return Expected(
        size=size if isinstance(size, int) and size >= 0 else None,
        sha256=sha256 if isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) else None,
        git_sha1=blob if not large and isinstance(blob, str) and re.fullmatch("[0-9a-f]{40}", blob) else None,
    )


def _download_all(place: _Place, commit: str, files: list[RemoteFile], stage: Path) -> None:
    total = sum(file.expected.size or 0 for file in files)
    done = sum(file.stat().st_size for file in stage.iterdir())
    check_space(stage, total - done)
    say(f"fetching {place.repo}@{place.revision}: {len(files)} files, {total / 1e6:.0f} MB from {endpoint()}")
    finished = 0
    for file in files:
        target = stage / file.name
        if not target.is_file() or mismatch(target, file.expected):  # else an interrupted run has fetched it
            address = f"{endpoint()}/{place.repo}/resolve/{commit}/{quote(file.name)}"
            download(address, target, file.expected, _progress_line(file.name, finished, total))
        finished += target.stat().st_size
    say(f"fetched {place.repo}@{place.revision}: {finished / 1e6:.0f} MB, checked")


def _progress_line(name: str, before: int, total: int) -> Callable[[int], None]:
    last = 0.0

    def show(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            say(f"  {(before + done) / 1e6:.0f} of {total / 1e6:.0f} MB  {name}", end="\r")

    return show
