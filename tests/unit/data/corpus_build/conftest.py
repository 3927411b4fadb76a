"""A tokenizer folder and a way to build with it, for all tests of corpora."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from chatwright.data.corpus_build.build import build
from chatwright.data.corpus_build.config import BuildConfig
from chatwright.text.bpe import train_bpe
from corpus_texts import write_rows


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["the quick brown fox jumps over the lazy dog. 锄禾日当午，汗滴禾下土。" * 3], 300).save(folder)
    return folder


@pytest.fixture
def build_corpus(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """`build_corpus(texts_or_files, name="corpus", **settings)` -> the built folder; one process unless told."""

    def run(given: Iterable[Any], name: str = "corpus", **settings: Any) -> Path:
        given = list(given)
        files = given if given and isinstance(given[0], Path) else [write_rows(tmp_path / f"{name}.jsonl", given)]
        out = tmp_path / name
        fields: dict[str, Any] = {"workers": 1, **settings}
        build(BuildConfig(files=tuple(map(str, files)), tokenizer=str(tokenizer_folder), out=str(out), **fields))
        return out

    return run
