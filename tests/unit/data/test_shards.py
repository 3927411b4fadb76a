"""Token shards: what was written comes back, whatever its cuts; damage is named."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatwright.data.shard_writer import ShardWriter
from chatwright.data.shards import FORMAT, MANIFEST, VERSION, Shards, is_built, read_manifest
from chatwright.errors import DataError

VOCABULARY = 70_000
DOCUMENTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9), min_size=1, max_size=12)


def write(folder: Path, documents: list[list[int]], *, shard_tokens: int = 10, dtype: str = "uint32") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    splits = {}
    for split, rows in (("train", documents), ("held_out", [])):
        writer = ShardWriter(folder, split, dtype=dtype, shard_tokens=shard_tokens)  # type: ignore[arg-type]
        for row in rows:
            writer.add(np.array(row), num_bytes=2 * len(row), num_characters=len(row))
        splits[split] = writer.finish()
    manifest = {"format": FORMAT, "version": VERSION, "tokenizer": {"sha256": "0", "vocab_size": VOCABULARY}, "dtype": dtype,
                "document": {"bos": None, "eos": 1}, "splits": splits}  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(documents=DOCUMENTS, shard_tokens=st.integers(1, 30), data=st.data())
def test_no_token_is_lost(documents: list[list[int]], shard_tokens: int, data: Any, tmp_path_factory: Any) -> None:
    folder = write(tmp_path_factory.mktemp("shards"), documents, shard_tokens=shard_tokens)
    shards = Shards.open(folder)
    flat = [i for row in documents for i in row]
    assert shards.tokens(0, shards.num_tokens).tolist() == flat
    assert [shards.tokens(*span).tolist() for span in shards.documents()] == documents
    ends = np.cumsum([0, *map(len, documents)]).tolist()
    assert shards.document_starts().tolist() == ends
    assert (shards.num_tokens, shards.num_documents) == (len(flat), len(documents))
    assert (shards.num_bytes, shards.num_characters) == (2 * len(flat), len(flat))
    start = data.draw(st.integers(0, len(flat)))
    stop = data.draw(st.integers(start, len(flat)))
    assert shards.tokens(start, stop).tolist() == flat[start:stop]
    assert all(shard.num_tokens >= shard_tokens for shard in shards.shards[:-1])
    shards.verify()
    assert Shards.open(folder, "held_out").num_tokens == 0


def test_many_documents_in_one_shard(tmp_path: Path) -> None:
    """More than `documents` reads at once."""
    num = 65_536 * 2 + 3
    writer = ShardWriter(tmp_path, "train", dtype="uint16", shard_tokens=10**9)
    for n in range(num):
        writer.add(np.array([n % 7]), num_bytes=1, num_characters=1)
    folder = write(tmp_path / "c", [[1]], dtype="uint16")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["splits"]["train"] = writer.finish()
    for name in ("train-00000.bin", "train-00000.idx"):
        (tmp_path / name).replace(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    spans = list(Shards.open(folder).documents())
    assert spans == [(n, n + 1) for n in range(num)]


def test_places_outside_are_refused(tmp_path: Path) -> None:
    shards = Shards.open(write(tmp_path, [[1, 2, 3]]))
    for start, stop in ((-1, 1), (0, 4), (2, 1)):
        with pytest.raises(IndexError):
            shards.tokens(start, stop)


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    documents = [[n, n + 1, n + 2, 9] for n in range(12)]
    for name in ("train-00000.bin", "train-00000.idx", "train-00001.bin"):
        for damage in ("missing", "short", "flipped"):
            folder = write(tmp_path / f"{name}-{damage}", documents)
            file = folder / name
            content = bytearray(file.read_bytes())
            if damage == "missing":
                file.unlink()
            elif damage == "short":
                file.write_bytes(content[:-1])
            else:
                content[5] ^= 1
                file.write_bytes(content)
            with pytest.raises(DataError, match=name):
                Shards.open(folder).verify()
            if damage != "flipped":
                with pytest.raises(DataError, match=name):
                    Shards.open(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_a_foreign_manifest_is_refused_with_an_error_of_ours(data: Any, tmp_path_factory: Any) -> None:
    folder = write(tmp_path_factory.mktemp("m"), [[1, 2]])
    manifest = json.loads((folder / MANIFEST).read_text())
    junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([0])
    target: Any = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        if isinstance(target[key], dict | list) and len(target[key]) and data.draw(st.booleans()):
            target = target[key]
            continue
        target[key] = data.draw(junk)
        break
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with contextlib.suppress(DataError):
        Shards.open(folder).verify()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": "other"}'])
def test_what_is_no_manifest(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match=MANIFEST):
        read_manifest(tmp_path)


def test_a_folder_without_one(tmp_path: Path) -> None:
    assert not is_built(tmp_path)
    with pytest.raises(DataError, match="no built corpus"):
        Shards.open(tmp_path)


def test_a_shard_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, [[1]])
    text = (folder / MANIFEST).read_text().replace("train-00000.bin", "../../x.bin")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(DataError, match="plain name"):
        Shards.open(folder)
