"""Folders that are either whole or not there: written aside, hashed, fsynced, renamed.

One flipped byte loads silently wrong from safetensors, so every folder carries MANIFEST.json (sha256 and size of every
file), written last and checked on every load. Nothing here unpickles.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from chatwright.errors import CheckpointError

MANIFEST = "MANIFEST.json"
CHECKPOINTS = "checkpoints"
_SHARD_BYTES = 256 * 2**20  # writing shard by shard keeps the memory peak of a save at one shard


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_manifest(folder: Path, extra: Mapping[str, Any] | None = None) -> None:
    """MANIFEST.json over every file below `folder`; files and folder are fsynced. `extra` is stored beside.

    Hidden files (the lock, what a kill left half-written) and checkpoints, which have manifests of their own, stay out.
    Files become readable for whoever may read the folder: the safetensors library writes them for their owner alone.
    """
    files = {}
    mode = folder.stat().st_mode & 0o666
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        parts = path.relative_to(folder).parts
        if parts[0] == CHECKPOINTS or any(part.startswith(".") for part in parts):
            continue
        if path.stat().st_mode & 0o666 != mode:
            path.chmod(mode)
        fsync_path(path)
        files[path.relative_to(folder).as_posix()] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    write_text(folder / MANIFEST, json.dumps({"files": files, **(extra or {})}, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically: aside, fsync, rename, fsync the folder."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from error
    fsync_path(path.parent)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, or a CheckpointError that names it."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["files"], dict) or not all(entry["sha256"] for entry in manifest["files"].values()):
            raise TypeError("files")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; the folder was never finished, or the file was removed") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error!r}); the folder is damaged") from None
    return dict(manifest)


def verify_folder(folder: Path) -> dict[str, Any]:
    """Check every file against the manifest and return it. CheckpointError names the first file that differs."""
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(f"{folder / MANIFEST}: names a file outside its folder: {name}")
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, though {MANIFEST} lists it")
        size = path.stat().st_size
        wanted = expected.get("bytes", expected.get("size"))  # the model cache says size
        if size != wanted:
            raise CheckpointError(f"{path}: has {size} bytes, {MANIFEST} says {wanted}")
        if file_sha256(path) != expected["sha256"]:
            raise CheckpointError(f"{path}: its contents do not match the sha256 in {MANIFEST}")
    return manifest


@contextlib.contextmanager
def atomic_folder(final: Path, extra: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """A folder to fill; when the block succeeds it gets its manifest and replaces `final`. `remove_leftovers` repairs what a
    kill between the two renames leaves."""
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        write_manifest(aside, extra)
        _replace_folder(aside, final)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CheckpointError(f"{final}: cannot be written ({reason}); free space and run again") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace_folder(aside: Path, final: Path) -> None:
    replaced = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        os.replace(final, replaced)
    try:
        os.replace(aside, final)
    except OSError:
        if replaced.exists():
            os.replace(replaced, final)
        raise
    fsync_path(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def leftovers(place: Path) -> list[Path]:
    """Half-written files and folders of killed processes directly below `place`; not what `remove_leftovers` restores."""
    restored = set(_to_restore(place))
    return [path for path in sorted([*place.glob(".*.tmp"), *place.glob(".*.old")]) if path not in restored]


def remove_leftovers(place: Path) -> None:
    """Delete `leftovers`. Where a kill fell between the two renames of `atomic_folder`, the new folder takes its place if it
    is whole, else the old one returns. The caller holds the lock of the run."""
    for path in _to_restore(place):
        os.replace(path, _target(path))
    for path in leftovers(place):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _to_restore(place: Path) -> list[Path]:
    """For every folder that was moved aside and has no successor in its place: the whole one of the two."""
    moved = [old for old in sorted(place.glob(".*.old")) if not _target(old).exists()]
    pairs = [(old.with_suffix(".tmp"), old) for old in moved]
    return [whole for pair in pairs if (whole := next((path for path in pair if _is_whole(path)), None))]


def _target(aside: Path) -> Path:
    """`.NAME.PID.old` -> `NAME`."""
    return aside.with_name(aside.name[1:].rsplit(".", 2)[0])


def _is_whole(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except CheckpointError:
        return False
    return True


def save_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors shards `state-00000.safetensors`, ... of at most 256 MiB each."""
    shard: dict[str, torch.Tensor] = {}
    size = index = 0
    for name, tensor in tensors.items():
        num_bytes = tensor.numel() * tensor.element_size()
        if shard and size + num_bytes > _SHARD_BYTES:
            save_file(shard, folder / f"state-{index:05d}.safetensors")
            shard, size, index = {}, 0, index + 1
        shard[name] = tensor.detach().contiguous().cpu()
        size += num_bytes
    save_file(shard, folder / f"state-{index:05d}.safetensors")


class TensorFolder(Mapping[str, torch.Tensor]):
    """Tensors of `save_tensors`, read one at a time when asked for."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("state-*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    self._files.update(dict.fromkeys(file.keys(), path))
            except SafetensorError as error:
                raise CheckpointError(f"{path}: {error}") from None

    def __getitem__(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def rng_state() -> dict[str, torch.Tensor]:
    """The state of torch's random generators (dropout draws from them)."""
    states = {"rng.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"rng.cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_rng(tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the random generators back to where `rng_state` found them."""
    torch.set_rng_state(tensors["rng.torch"])
    for i in range(torch.cuda.device_count()):
        if f"rng.cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"rng.cuda.{i}"], i)


def _step_of(path: Path) -> int:
    number = path.name.partition("-")[2]
    return int(number) if number.isdecimal() else -1


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checkpoint that verified: how many steps were done, its tensors, and its small values."""

    step: int
    tensors: Mapping[str, torch.Tensor]
    meta: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run, `checkpoints/step-000123/`; the newest `keep` are kept."""

    def __init__(self, run_folder: Path, keep: int = 2) -> None:
        self.folder = run_folder / CHECKPOINTS
        self.keep = keep

    def save(
        self,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        meta: Mapping[str, Any],
        rng: Mapping[str, torch.Tensor] | None = None,
    ) -> Path:
        """Write checkpoint `step` (steps done) atomically, then drop the oldest ones. `rng`: random states to store instead
        of the present ones."""
        path = self.folder / f"step-{step:06d}"
        everything = {**tensors, **(rng_state() if rng is None else rng)}
        with atomic_folder(path, {"step": step}) as aside:
            save_tensors(aside, everything)
            write_text(aside / "meta.json", json.dumps(dict(meta)))
        for old in self._paths()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def _paths(self) -> list[Path]:
        return sorted((p for p in self.folder.glob("step-*") if p.is_dir()), key=_step_of)

    def latest(self) -> tuple[Loaded | None, list[str]]:
        """The newest checkpoint that verifies, and why any newer ones were refused."""
        refused = []
        for path in reversed(self._paths()):
            try:
                step = verify_folder(path).get("step")
                if step != _step_of(path):
                    raise CheckpointError(f"{path}: holds step {step}; it was renamed or swapped with another checkpoint")
                tensors = TensorFolder(path)
                meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            except (CheckpointError, OSError, ValueError) as error:
                refused.append(str(error))
                continue
            return Loaded(step=_step_of(path), tensors=tensors, meta=meta), refused
        return None, refused

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, oldest first; not verified."""
        return [_step_of(path) for path in self._paths()]

    def clear(self) -> None:
        """Remove all checkpoints (after a run has finished and its final weights are verified)."""
        shutil.rmtree(self.folder, ignore_errors=True)
