"""Versions of models follow the content of their files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from chatwright.hub import content_hash as module
from chatwright.hub.content_hash import content_hash


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"one")
    return made


def test_it_changes_with_a_file_and_not_with_the_place(folder: Path, tmp_path: Path) -> None:
    before = content_hash(folder)
    (folder / "README.md").write_text("a text about the model")
    assert len(before) == 64 and content_hash(folder) == before
    moved = folder.rename(tmp_path / "elsewhere")
    assert content_hash(moved) == before
    (moved / "model.safetensors").write_bytes(b"other")
    assert content_hash(moved) != before


def test_a_manifest_stands_for_the_folder(folder: Path) -> None:
    (folder / "MANIFEST.json").write_text('{"files": {}}')
    assert content_hash(folder) == hashlib.sha256(b'{"files": {}}').hexdigest()


@pytest.mark.parametrize("manifest", [False, True])
def test_the_hash_of_an_adapter_includes_its_base(folder: Path, tmp_path: Path, manifest: bool) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}))
    if manifest:
        (adapter / "MANIFEST.json").write_text("{}")
    before = content_hash(adapter)
    (folder / "model.safetensors").write_bytes(b"other")
    assert content_hash(adapter) not in (before, content_hash(folder))


def test_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_hash(folder)
    monkeypatch.setattr(module, "sha256", lambda file: pytest.fail(f"{file} was read again"))
    assert content_hash(folder) == before


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_cache_costs_time_only(folder: Path, tmp_path: Path, damage: str) -> None:
    before = content_hash(folder)
    (tmp_path / "cache" / "content-hashes.json").write_text(damage)
    assert content_hash(folder) == before
