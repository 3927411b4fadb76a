"""Checkpoints: whole or not there, every damage refused by name, the last good one used (R4), a full disk survived (R5)."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from chatwright.engine import checkpoint
from chatwright.engine.checkpoint import (
    MANIFEST,
    CheckpointStore,
    TensorFolder,
    atomic_folder,
    read_manifest,
    restore_rng,
    save_tensors,
    verify_folder,
    write_manifest,
    write_text,
)
from chatwright.errors import CheckpointError

FILES = ("state-00000.safetensors", "state-00001.safetensors", "meta.json", MANIFEST)


def tensors(step: int) -> dict[str, torch.Tensor]:
    half = torch.full((7,), step, dtype=torch.bfloat16)
    return {"w": torch.full((300,), float(step)), "half": half, "n": torch.tensor(step)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointStore:
    """Checkpoints of steps 2 and 4, each in two shards."""
    monkeypatch.setattr(checkpoint, "_SHARD_BYTES", 1222)
    made = CheckpointStore(tmp_path)
    for step in (2, 4):
        torch.rand(step)  # as dropout would
        made.save(step, tensors(step), {"beta": step / 10})
    return made


@pytest.mark.parametrize("whole", [True, False])
def test_a_kill_between_the_two_renames_loses_no_folder(tmp_path: Path, whole: bool) -> None:
    """The new folder takes its place when it is whole, else the old one returns; prune deletes neither."""
    final = tmp_path / "best"
    for text in ("old", "new"):
        with atomic_folder(final) as aside:
            (aside / "w").write_text(text)
        final.rename(tmp_path / f"kept-{text}")
    (tmp_path / "kept-old").rename(tmp_path / ".best.7.old")
    (tmp_path / "kept-new").rename(tmp_path / ".best.7.tmp")
    if not whole:
        (tmp_path / ".best.7.tmp" / "w").write_text("ne")
    (tmp_path / ".other.7.tmp").mkdir()
    kept = tmp_path / (".best.7.tmp" if whole else ".best.7.old")
    assert kept not in checkpoint.leftovers(tmp_path) and len(checkpoint.leftovers(tmp_path)) == 2
    checkpoint.remove_leftovers(tmp_path)
    assert (final / "w").read_text() == ("new" if whole else "old")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_failed_second_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "final"
    with atomic_folder(final) as aside:
        (aside / "w").write_text("old")
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp") and Path(target) == final:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(CheckpointError, match="No space left"), atomic_folder(final) as aside:
        (aside / "w").write_text("new")
    assert (final / "w").read_text() == "old"


def test_what_is_saved_is_what_is_loaded(store: CheckpointStore) -> None:
    loaded, refused = store.latest()
    assert loaded is not None and refused == []
    assert loaded.step == 4 and loaded.meta == {"beta": 0.4}
    for name, value in tensors(4).items():
        assert loaded.tensors[name].dtype == value.dtype and torch.equal(loaded.tensors[name], value)
    folder = store.folder / "step-000004"
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    manifest = read_manifest(folder)
    assert manifest["step"] == 4 and set(manifest["files"]) == set(FILES) - {MANIFEST}


def test_weights_are_readable_for_whoever_may_read_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "final"
    folder.mkdir()
    folder.chmod(0o750)
    checkpoint.save_tensors(folder, tensors(1))
    (folder / "private.json").write_text("{}")
    (folder / "private.json").chmod(0o600)
    checkpoint.write_manifest(folder)
    assert {oct(p.stat().st_mode & 0o777) for p in folder.iterdir() if p.name != MANIFEST} == {"0o640"}


def test_the_random_generator_goes_on_where_it_was(store: CheckpointStore) -> None:
    torch.manual_seed(5)
    torch.rand(3)
    store.save(6, tensors(6), {})
    expected = torch.rand(4)
    torch.manual_seed(99)
    loaded, _ = store.latest()
    assert loaded is not None
    restore_rng(loaded.tensors)
    assert torch.equal(torch.rand(4), expected)


def test_only_the_newest_are_kept_and_step_numbers_sort_as_numbers(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (999_998, 999_999, 1_000_000):
        store.save(step, tensors(1), {})
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-1000000", "step-999999"]
    loaded, _ = store.latest()
    assert loaded is not None and loaded.step == 1_000_000


# ---- damage (R4) -----------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def swap(path: Path) -> None:
    """The same file of the other checkpoint."""
    shutil.copy(path.parents[1] / "step-000002" / path.name, path)


@pytest.mark.parametrize("damage", [flip, cut, empty, zero, Path.unlink, swap])
@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_is_refused_by_name_and_the_last_good_one_is_used(
    store: CheckpointStore, name: str, damage: object
) -> None:
    path = store.folder / "step-000004" / name
    damage(path)  # type: ignore[operator]
    loaded, refused = store.latest()
    assert loaded is not None and loaded.step == 2 and torch.equal(loaded.tensors["w"], tensors(2)["w"])
    (reason,) = refused
    assert str(path.parent) in reason
    if damage is not swap and not (name == MANIFEST and damage is flip):  # a flipped manifest may blame what it lists
        assert str(path) in reason, reason


def test_every_single_flipped_byte_is_noticed(store: CheckpointStore) -> None:
    """safetensors loads a flipped weight without a word."""
    path = store.folder / "step-000004" / "state-00000.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="state-00000.safetensors"):
            verify_folder(path.parent)


def test_swapped_checkpoints_are_refused(store: CheckpointStore) -> None:
    """Each folder agrees with its own manifest; the step in it gives the swap away."""
    two, four = store.folder / "step-000002", store.folder / "step-000004"
    two.rename(store.folder / "aside")
    four.rename(two)
    (store.folder / "aside").rename(four)
    loaded, refused = store.latest()
    assert loaded is None and len(refused) == 2 and "holds step 2" in refused[0]


def test_without_any_good_checkpoint_there_is_none(store: CheckpointStore) -> None:
    for step in ("step-000002", "step-000004"):
        flip(store.folder / step / "meta.json")
    loaded, refused = store.latest()
    assert loaded is None and len(refused) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": []}', '{"files": {"meta.json": {}}}', '{"files": {"meta.json": 3}}', "\x00"]
)
def test_a_manifest_of_nonsense_is_a_checkpoint_error(store: CheckpointStore, text: str) -> None:
    path = store.folder / "step-000004" / MANIFEST
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=str(path.parent)):
        verify_folder(path.parent)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_a_manifest_may_not_name_files_outside(store: CheckpointStore, name: str) -> None:
    path = store.folder / "step-000004" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"sha256": "0", "bytes": 0}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="outside its folder"):
        verify_folder(path.parent)


# ---- whole or not there ----------------------------------------------------------------------------------------------


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("exists", [False, True])
def test_a_block_that_raises_leaves_nothing_half_written(tmp_path: Path, error: BaseException, exists: bool) -> None:
    final = tmp_path / "final"
    if exists:
        with atomic_folder(final) as aside:
            (aside / "old").write_text("old")
    before = everything(tmp_path)
    with pytest.raises(type(error)), atomic_folder(final) as aside:
        (aside / "new").write_text("half")
        raise error
    assert everything(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == (["final"] if exists else [])


def test_a_good_block_takes_the_place_of_the_old_folder(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "final", {"note": text}) as aside:
            (aside / f"{text}.txt").write_text(text)
    assert sorted(p.name for p in (tmp_path / "final").iterdir()) == [MANIFEST, "new.txt"]
    assert verify_folder(tmp_path / "final")["note"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_everything_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order of events: every file fsynced, then the manifest, then the rename, then the folder around it fsynced."""
    events: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(handle: int) -> None:
        events.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        real["fsync"](handle)

    def replace(source: str, target: str) -> None:
        events.append(f"rename {Path(target).name}")
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic_folder(tmp_path / "final") as aside:
        save_tensors(aside, tensors(1))
    renamed = events.index("rename final")
    manifest = events.index(f"rename {MANIFEST}")
    assert events.index("fsync state-00000.safetensors") < manifest < renamed
    assert events[renamed + 1] == f"fsync {tmp_path.name}"
    assert any(event.startswith(f"fsync .{MANIFEST}") for event in events[:manifest])


# ---- a full disk (R5) ------------------------------------------------------------------------------------------------


@contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """Writing more than this into one file fails (EFBIG) as a full disk would (ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 40, 900])
def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_stands(store: CheckpointStore, limit: int) -> None:
    before = everything(store.folder)
    with files_limited_to(limit), pytest.raises(CheckpointError, match="step-000006: cannot be written .*free space"):
        store.save(6, tensors(6), {})
    assert everything(store.folder) == before
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-000002", "step-000004"]
    store.save(6, tensors(6), {})
    loaded, _ = store.latest()
    assert loaded is not None and loaded.step == 6


def test_a_small_file_on_a_full_disk_keeps_its_old_contents(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_text(path, "old")
    with files_limited_to(0), pytest.raises(CheckpointError, match="result.json: cannot be written"):
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", ["EIO", "ENOSPC"])
def test_the_nth_failing_system_call_never_leaves_a_wrong_checkpoint(
    store: CheckpointStore, call: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6 in small: whichever call fails, the newest checkpoint that loads is whole."""
    import errno

    real = getattr(os, call)
    for nth in range(1, 40):
        count = 0

        def failing(*args: object, nth: int = nth, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == nth:
                raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
            return real(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            try:
                store.save(6, tensors(6), {"beta": 0.6})
            except CheckpointError as error:
                assert "cannot be written" in str(error)
        loaded, refused = store.latest()
        assert loaded is not None and refused == []
        assert torch.equal(loaded.tensors["w"], tensors(loaded.step)["w"]) and loaded.meta == {"beta": loaded.step / 10}
        assert not list(store.folder.glob(".*.tmp"))
        if count < nth:
            assert loaded.step == 6
            return
    raise AssertionError("more calls than expected")


# ---- tensors on disk -------------------------------------------------------------------------------------------------


def test_tensors_in_many_shards_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_SHARD_BYTES", 64)
    values = {f"t{i}": torch.randn(i + 1, 3).t() for i in range(9)}  # not contiguous
    save_tensors(tmp_path, values)
    assert len(list(tmp_path.glob("state-*.safetensors"))) > 3
    read = TensorFolder(tmp_path)
    assert len(read) == 9 and set(read) == set(values)
    assert all(torch.equal(read[name], value) for name, value in values.items())


def test_a_manifest_leaves_out_hidden_files_and_checkpoints(tmp_path: Path) -> None:
    for name in ("a.txt", "deep/b.txt", ".lock", ".final.1.tmp/c.txt", "checkpoints/step-000001/meta.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path)
    assert set(read_manifest(tmp_path)["files"]) == {"a.txt", "deep/b.txt"}
