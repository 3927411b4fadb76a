"""Tokenizers by name: a folder of a tokenizer or a model, or a named model."""

from __future__ import annotations

from pathlib import Path

from chatwright.text.tokenizer import Tokenizer


def open_tokenizer(name: str) -> Tokenizer:
    """The tokenizer in a folder, or that of a named model (fetched when it is not in the cache). Raises ModelError or
    HubError."""
    if (Path(name) / "tokenizer.json").is_file():
        return Tokenizer.from_folder(name)
    from chatwright import hub
    from chatwright.model.formats.convert import ensure_hf_folder

    return Tokenizer.from_folder(ensure_hf_folder(hub.resolve(name)))
