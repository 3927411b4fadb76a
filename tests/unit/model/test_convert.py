"""GGUF -> cached folder: once, whole, and again when the cache is damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatwright.errors import HubError, ModelError
from chatwright.hub.store import MANIFEST, cache_folder, damage, sha256
from chatwright.model.formats import convert
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.formats.gguf_write import write_gguf
from chatwright.text.tokenizer import Tokenizer
from conftest import CHATML_TOKENS, byte_level_json, chatml_config
from tiny_models import tiny_model


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config()).save(tmp_path)
    write_gguf(tiny_model("llama", 700), tmp_path / "tiny.gguf", tmp_path, "q8_0", name="tiny")
    return tmp_path / "tiny.gguf"


def test_a_folder_is_returned_as_it_is(tmp_path: Path) -> None:
    assert ensure_hf_folder(tmp_path) == tmp_path


def test_converted_once_and_verified(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ensure_hf_folder(gguf)
    assert damage(folder) is None and sha256(gguf)[:16] in folder.name
    with monkeypatch.context() as patch:
        patch.setattr(convert, "_convert", None)
        assert ensure_hf_folder(gguf) == folder
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 4
    weights.write_bytes(content)
    assert damage(folder) == "model.safetensors: its sha256 is not the recorded one"
    assert damage(ensure_hf_folder(gguf)) is None
    (folder / "tokenizer.json").unlink()
    assert (ensure_hf_folder(gguf) / "tokenizer.json").is_file()
    (folder / MANIFEST).write_text("{")
    assert damage(ensure_hf_folder(gguf)) is None


def test_another_file_of_the_same_name_is_another_model(gguf: Path, tmp_path: Path) -> None:
    first = ensure_hf_folder(gguf)
    write_gguf(tiny_model("llama", 700, seed=9), gguf, tmp_path, "f16", name="tiny")
    assert ensure_hf_folder(gguf) != first and first.is_dir()


def test_a_fetched_file_that_changed_is_removed(gguf: Path) -> None:
    kept = cache_folder() / "files" / ("0" * 64) / "tiny.gguf"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(gguf.read_bytes())
    with pytest.raises(HubError, match="damaged since it was fetched"):
        ensure_hf_folder(kept)
    assert not kept.exists()


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none.gguf: cannot be read"):
        ensure_hf_folder(tmp_path / "none.gguf")


def test_two_processes_convert_once(gguf: Path) -> None:
    code = f"from chatwright.model.formats.convert import ensure_hf_folder as e; print(e({str(gguf)!r}))"
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=-1, stderr=-1, env=None, text=True) for _ in range(2)]
    told = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert told[0][0] == told[1][0] and damage(Path(told[0][0].strip())) is None
    assert sum("converting" in err for _, err in told) == 1
