"""A training step with and without `engine.memory.keep_heap`, each in processes of its own, interleaved.

    python benchmarks/heap.py

Prints the ratio; writes benchmarks/results/heap.json.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
REPEATS, STEPS = 3, 4


def work(keep: bool) -> None:
    """Steps of a model as large as SmolLM2-135M without its vocabulary; prints the median seconds and page faults."""
    import torch

    from chatwright.engine.memory import keep_heap
    from chatwright.model.config import ModelConfig
    from chatwright.model.init import initialised

    if keep:
        keep_heap()
    config = ModelConfig(
        family="llama", vocab_size=1024, hidden_size=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64,
        intermediate_size=1536, max_positions=512,
    )  # fmt: skip
    model = initialised(config, 0, dtype=torch.bfloat16)
    tokens_BT = torch.randint(0, 1024, (8, 200))
    taken = []
    for _ in range(STEPS):
        started = time.perf_counter()
        model(tokens_BT).float().pow(2).mean().backward()
        model.zero_grad(set_to_none=True)
        taken.append(time.perf_counter() - started)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    print(json.dumps({"seconds": statistics.median(taken[1:]), "page_faults": faults}))


def main() -> None:
    """Measure both, interleaved."""
    rows: dict[str, list[dict[str, float]]] = {"default": [], "keep_heap": []}
    for _ in range(REPEATS):
        for name, found in rows.items():
            command = [sys.executable, __file__, name]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds = {name: statistics.median(r["seconds"] for r in found) for name, found in rows.items()}
    ratio = seconds["default"] / seconds["keep_heap"]
    print(f"default {seconds['default']:.2f} s, keep_heap {seconds['keep_heap']:.2f} s a step: {ratio:.2f}x")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "heap.json").write_text(json.dumps({"ratio": ratio, **rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work(sys.argv[1] == "keep_heap")
    else:
        main()
