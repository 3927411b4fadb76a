"""Forward and backward of one attention layer on the CPU: plain matmul-softmax beside torch's fused kernel.

    python benchmarks/attention.py

Prints the ratio per length; model/attention.py takes the plain path up to the length where the fused one wins.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from chatwright.model.attention import causal_bias, plain_attention

RESULTS = Path(__file__).parent / "results"
HEADS, KV_HEADS, WIDTH = 9, 3, 64  # SmolLM2-135M
TOKENS = 2048  # per call, whatever the length


def seconds(work: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> float:
    """One forward and backward."""
    started = time.perf_counter()
    torch.autograd.grad(work().float().sum(), leaves)
    return time.perf_counter() - started


def main() -> None:
    """Measure lengths 64 to 2048 in bf16, interleaved, medians of 5."""
    rows = []
    for length in (64, 128, 256, 512, 1024, 2048):
        batch = TOKENS // length
        q = torch.randn(batch, HEADS, length, WIDTH, dtype=torch.bfloat16, requires_grad=True)
        k, v = (torch.randn(batch, KV_HEADS, length, WIDTH, dtype=torch.bfloat16, requires_grad=True) for _ in "kv")
        bias = causal_bias(length, q.dtype, q.device)
        kinds: dict[str, Callable[[], torch.Tensor]] = {
            "plain": lambda q=q, k=k, v=v, bias=bias: plain_attention(q, k, v, bias, WIDTH**-0.5),
            "fused": lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(6):
            for name, work in kinds.items():
                taken[name].append(seconds(work, [q, k, v]))
        plain, fused = (statistics.median(taken[name][1:]) for name in ("plain", "fused"))
        rows.append({"length": length, "plain_ms": plain * 1e3, "fused_ms": fused * 1e3, "fused/plain": fused / plain})
        print(f"{length:5d} tokens: plain {plain * 1e3:7.1f} ms, fused {fused * 1e3:7.1f} ms, ratio {fused / plain:.2f}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "attention.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
