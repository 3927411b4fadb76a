"""What a training run exports: a Hugging Face folder, and the adapter in PEFT's format where one was trained."""

from __future__ import annotations

from pathlib import Path

from chatwright.model import lora
from chatwright.model.formats.huggingface import SavesTokenizer, save_folder
from chatwright.model.transformer import Transformer

ADAPTER_FOLDER = "adapter"


def save_final(model: Transformer, folder: Path, tokenizer: SavesTokenizer, *, base: str) -> None:
    """Write weights and tokenizer. A trained adapter is written to adapter/ and then merged into the model, in place."""
    if any(True for _ in lora.adapters(model)):
        lora.save_adapter(model, folder / ADAPTER_FOLDER, base=base)
        lora.merge(model)
    save_folder(model, folder, tokenizer.pinned())
