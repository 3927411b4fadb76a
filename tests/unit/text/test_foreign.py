"""Tokenizers of unknown origin: tried once, in a process of their own, with limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import ModelError
from chatwright.hub.store import MANIFEST, cache_folder
from chatwright.text import foreign
from chatwright.text.foreign import check_foreign


def test_a_good_tokenizer_is_tried_once(
    make_tokenizer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_tokenizer().save(tmp_path / "model")
    check_foreign(tmp_path / "model")
    assert len(list((cache_folder() / "tokenizers").iterdir())) == 1
    monkeypatch.setattr(foreign.subprocess, "run", None)
    check_foreign(tmp_path / "model")  # remembered
    file = tmp_path / "model" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(TypeError):
        check_foreign(tmp_path / "model")
    (tmp_path / "model" / MANIFEST).write_text("{}")
    check_foreign(tmp_path / "model")  # ours


def test_a_tokenizer_that_never_comes_back_is_refused(
    make_tokenizer: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = json.loads(make_tokenizer().json)
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "a*a*(?<![!a])"}, "content": ""}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: the tokenizer did not come back within 2 s"):
        check_foreign(tmp_path, timeout_s=2)
    assert not (cache_folder() / "tokenizers").exists()


@pytest.mark.parametrize("content", ["{}", "[" * 100_000, '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_damaged_files_are_named(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json: is not a usable tokenizer"):
        check_foreign(tmp_path)
