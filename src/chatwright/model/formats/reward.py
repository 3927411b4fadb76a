"""A reward model on disk: its trunk as an ordinary HF folder, and beside it reward_head.safetensors and reward.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chatwright.errors import ModelError
from chatwright.hub import model_folder
from chatwright.model.formats.huggingface import SavesTokenizer, load_folder, save_folder
from chatwright.model.heads import ScalarModel

HEAD_FILE = "reward_head.safetensors"
META_FILE = "reward.json"


def save_scalar_model(model: ScalarModel, folder: Path, tokenizer: SavesTokenizer, meta: Mapping[str, Any]) -> None:
    """Write trunk, head, tokenizer and `meta` (tie mode, report card figures, ...)."""
    save_folder(model.trunk, folder, tokenizer)
    head = {
        "weight": model.head.weight.detach().cpu(),
        "bias": model.head.bias.detach().cpu(),
        "tie_parameter": model.tie_parameter.detach().cpu(),
    }
    save_file(head, folder / HEAD_FILE)
    (folder / META_FILE).write_text(json.dumps(dict(meta), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_scalar_model(
    path: str | Path, *, dtype: torch.dtype, device: torch.device | str
) -> tuple[ScalarModel, dict[str, Any]]:
    """Load a reward run or folder. A missing or foreign head is an error that names the file: never a fresh head."""
    folder = model_folder(path, "reward")
    if not (folder / HEAD_FILE).is_file():
        raise ModelError(f"{folder / HEAD_FILE}: missing; this is not a reward model. Train one with `chatwright reward`")
    try:
        head = load_file(folder / HEAD_FILE)
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: the reward head cannot be read ({error})") from None
    model = ScalarModel(load_folder(folder, dtype=dtype, device=device))
    wanted = {"weight": model.head.weight, "bias": model.head.bias, "tie_parameter": model.tie_parameter}
    for name, parameter in wanted.items():
        if name not in head or head[name].shape != parameter.shape:
            raise ModelError(f"{folder / HEAD_FILE}: has no fitting tensor {name!r}; the file belongs to another model")
    if extra := sorted(set(head) - set(wanted)):
        raise ModelError(f"{folder / HEAD_FILE}: has unexpected tensors: {', '.join(extra)}")
    model.to(device)
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(head[name])
    return model, meta
