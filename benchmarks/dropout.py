"""Dropout in training (bf16, CPU): a mask of bits beside torch's own, alone and in a step of pre-training.

    python benchmarks/dropout.py

Interleaved, medians, as ratios. Writes benchmarks/results/dropout.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from chatwright.kernels.dropout import dropout
from chatwright.model.config import ModelConfig
from chatwright.model.init import initialised
from chatwright.model.transformer import Block, Transformer
from chatwright.objectives.lm import token_nll

RESULT = Path(__file__).parent / "results" / "dropout.json"
SHARE, ROWS, LENGTH, WIDTH = 0.2, 32, 256, 256  # the hour of tinyshakespeare.py
SHAPE = ModelConfig(
    family="qwen3", vocab_size=400, hidden_size=WIDTH, intermediate_size=704, num_layers=6, num_heads=4, num_kv_heads=4,
    head_dim=64, qk_norm=True, max_positions=LENGTH, tie_embeddings=True,
)  # fmt: skip


def medians(kinds: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds + 1):
        for name, work in kinds.items():
            started = time.perf_counter()
            work()
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def step(model: Transformer, tokens: torch.Tensor, layer: nn.Module | None) -> None:
    """Forward and backward, with `layer` as the dropout of every block; None: without."""
    for block in model.blocks:
        assert isinstance(block, Block)
        block.dropout = layer if layer is not None else nn.Identity()
    hidden = model(tokens[:, :-1])
    token_nll(hidden.flatten(0, 1), model.output_weight(), tokens[:, 1:].flatten())[0].backward()
    model.zero_grad()


class Bits(nn.Module):
    """Ours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return dropout(x, SHARE, training=True)


def main() -> None:
    """Measure, print, write."""
    x = torch.randn(ROWS, LENGTH, WIDTH).bfloat16()
    alone = medians({"torch": lambda: F.dropout(x, SHARE), "bits": lambda: dropout(x, SHARE, training=True)}, 30)
    model = initialised(SHAPE, 0, dtype=torch.bfloat16, device=torch.device("cpu")).train()
    tokens = torch.randint(0, SHAPE.vocab_size, (ROWS, LENGTH + 1))
    layers = {"torch": nn.Dropout(SHARE).train(), "bits": Bits(), "none": None}
    whole = medians({name: lambda layer=layer: step(model, tokens, layer) for name, layer in layers.items()}, 7)
    report = {"alone_ms": alone, "step_ms": whole, "threads": torch.get_num_threads()}
    report |= {"alone_ratio": alone["torch"] / alone["bits"], "step_ratio": whole["torch"] / whole["bits"]}
    print(json.dumps(report, indent=1))
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
