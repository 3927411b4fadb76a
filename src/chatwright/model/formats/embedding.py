"""An embedding model on disk: its trunk as an ordinary Hugging Face folder, and beside it embedding_head.safetensors and
embedding.json (how states are pooled, which tokens see which, the widths it was trained for)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chatwright.errors import ModelError
from chatwright.model.heads import EmbeddingHead

HEAD_FILE = "embedding_head.safetensors"
META_FILE = "embedding.json"
Pooling = Literal["mean", "last"]
Attention = Literal["causal", "both"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    """How a text becomes a vector."""

    pooling: Pooling = "mean"
    """The mean of the states of all tokens, or the state of an end-of-document token put behind them."""
    attention: Attention = "causal"
    """Whether a token sees those before it, or those on both sides."""
    dimensions: tuple[int, ...] = ()
    """Widths the head was trained for, the widest first; empty: no head, the model's own width."""
    max_tokens: int = 0
    """Longest text that is read at once where tokens see both sides; 0: the model's context."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Base model, data and loss, for the reader."""


def save_embedding_head(head: EmbeddingHead, folder: Path, spec: EmbeddingSpec) -> None:
    """Write head and spec beside a model."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.linear.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE)
    (folder / META_FILE).write_text(json.dumps(asdict(spec), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def has_embedding_head(folder: Path) -> bool:
    """Whether a model folder holds a trained head, or half of one (which `load_embedding_head` refuses)."""
    return (folder / HEAD_FILE).is_file() or (folder / META_FILE).is_file()


def load_embedding_head(
    folder: Path, hidden_size: int, device: torch.device | str = "cpu"
) -> tuple[EmbeddingHead, EmbeddingSpec]:
    """The head of a model of this width. ModelError names the file that is missing, damaged, or of another model."""
    for name in (HEAD_FILE, META_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: missing; the embedding head is of two files. Restore it or train again")
    spec = _spec(folder / META_FILE)
    try:
        tensors = load_file(folder / HEAD_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / HEAD_FILE}: cannot be read ({error})") from None
    head = EmbeddingHead(hidden_size, spec.dimensions[0])
    wanted = head.linear.state_dict()
    if {n: (t.shape, t.dtype) for n, t in tensors.items()} != {n: (t.shape, t.dtype) for n, t in wanted.items()}:
        raise ModelError(
            f"{folder / HEAD_FILE}: does not map {hidden_size} numbers to {spec.dimensions[0]}; it belongs to another model"
        )
    head.linear.load_state_dict(tensors)
    return head.to(device).eval(), spec


def _spec(path: Path) -> EmbeddingSpec:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        spec = EmbeddingSpec(
            pooling=row["pooling"], attention=row["attention"], dimensions=tuple(row["dimensions"]),
            max_tokens=row["max_tokens"], about=dict(row["about"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({error!r})") from None
    counts = [*spec.dimensions, spec.max_tokens]
    known = spec.pooling in get_args(Pooling) and spec.attention in get_args(Attention)
    if not known or not spec.dimensions or not all(type(n) is int and n >= 0 for n in counts) or min(spec.dimensions) < 1:
        raise ModelError(f"{path}: holds values that no embedding model has")
    if spec.dimensions[0] > 2**20 or list(spec.dimensions) != sorted(spec.dimensions, reverse=True):
        raise ModelError(f"{path}: dimensions must go from the widest to the narrowest, {2**20} at most")
    return spec
