"""Training speed (performance.md P1, P2): one step of SFT and of the reward model beside transformers, in the same run.

    python benchmarks/train.py [--repeats 3] [--no-reward]

SFT: 8 rows of 256 tokens, every weight trained, AdamW with fp32 masters. The peer is transformers with fp32 weights under
bf16 autocast, as its users train on a CPU that has bf16 (fp32 throughout where it has not).
Reward model: prompts of 128 tokens with K answers of 64. Ours computes a prompt once for its K answers; the peer is what
pair-wise trainers do, both sequences of each of the C(K, 2) pairs, in transformers; `k_sequences` is our own model with a
row per answer, so that the two parts of the gain can be told apart.
Steps are interleaved and medians compared. Writes benchmarks/results/train.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from chatwright import hub
from chatwright.data.batches import LMBatch
from chatwright.data.rankings import RankingExample, micro_batches
from chatwright.engine.machine import matmul_gflops
from chatwright.engine.memory import keep_heap
from chatwright.engine.optim import MasterAdamW, OptimConfig
from chatwright.engine.step import accumulate
from chatwright.generation.lm import load_model
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.heads import ScalarModel
from chatwright.model.precision import pick_dtype
from chatwright.objectives.lm import batch_nll
from chatwright.recipes.reward import RewardTrainConfig, loss_of

RESULTS = Path(__file__).parent / "results" / "train.json"
ROWS, WIDTH = 8, 256
PROMPT, ANSWER, PROMPTS = 128, 64, 4
CPU = torch.device("cpu")
Step = Callable[[], None]


def interleaved(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if repeat:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def autocast(dtype: torch.dtype) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if dtype == torch.bfloat16 else contextlib.nullcontext()


def peer_step(model: Any, loss: Callable[[], torch.Tensor], dtype: torch.dtype) -> Step:
    """Forward, backward, clip and AdamW as trainers around transformers do it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with autocast(dtype):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def sft(folder: Path, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Tokens per second of a step over 8 x 256 tokens."""
    import transformers

    model, _ = load_model(folder, dtype=dtype, device=CPU)
    model.train()
    ids_BT = torch.randint(0, model.config.vocab_size, (ROWS, WIDTH), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    mask_BT[:, 0] = False
    batch = LMBatch(tokens_BT=ids_BT, loss_mask_BT=mask_BT, lengths_B=torch.full((ROWS,), WIDTH))
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=1e-6))

    def ours() -> None:
        accumulate(optimizer, [batch], lambda b: batch_nll(model, b), batch.num_targets, where="benchmark")
        optimizer.step(1e-6, where="benchmark")

    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    theirs = peer_step(peer, lambda: peer(input_ids=ids_BT, labels=ids_BT).loss, dtype)
    taken = interleaved({"ours": ours, "transformers": theirs}, repeats)
    tokens = ROWS * WIDTH
    flops = 6 * model.config.num_parameters() * tokens
    peak = matmul_gflops(dtype, CPU)
    return {
        "tokens_per_s": round(tokens / taken["ours"], 1),
        "transformers_tokens_per_s": round(tokens / taken["transformers"], 1),
        "ratio": round(taken["transformers"] / taken["ours"], 2),
        "share_of_matmul_peak": round(flops / taken["ours"] / 1e9 / peak, 3),
        "matmul_gflops": round(peak),
    }


def reward(folder: Path, dtype: torch.dtype, num_answers: int, repeats: int) -> dict[str, Any]:
    """Seconds per prompt of a step over 4 prompts with K answers each."""
    import transformers

    trunk, tokenizer = load_model(folder, dtype=dtype, device=CPU)
    model = ScalarModel(trunk).train()
    model.head.init_normal(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, trunk.config.vocab_size, (number,), generator=generator).tolist())

    pairs = list(itertools.combinations(range(num_answers), 2))
    examples = [
        RankingExample(ids(PROMPT), tuple(ids(ANSWER) for _ in range(num_answers)), tuple((i, j, 1) for i, j in pairs))
        for _ in range(PROMPTS)
    ]
    optimizer = MasterAdamW(model.named_parameters(), OptimConfig(lr=1e-6))
    cfg = RewardTrainConfig()

    def ours(layout: Any) -> Step:
        def step() -> None:
            batches = micro_batches(examples, 2048, tokenizer.pad_id, CPU, layout=layout)
            accumulate(optimizer, batches, lambda b: loss_of(model, b, cfg), PROMPTS, where="benchmark")
            optimizer.step(1e-6, where="benchmark")

        return step

    peer = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=1).train()
    peer.config.pad_token_id = tokenizer.pad_id
    rows = [
        torch.tensor([[*e.prompt_ids, *e.answers[a]] for a in chosen])
        for e in examples
        for chosen in ([i for i, _ in pairs], [j for _, j in pairs])
    ]
    optimizer_peer = torch.optim.AdamW(peer.parameters(), lr=1e-6, fused=True)

    def pairwise() -> None:
        for better, worse in zip(rows[::2], rows[1::2], strict=True):
            for start in range(0, len(better), 6):  # micro-batches of six pairs
                part = slice(start, start + 6)
                with autocast(dtype):
                    margin = peer(input_ids=better[part]).logits - peer(input_ids=worse[part]).logits
                (-torch.nn.functional.logsigmoid(margin.float()).sum() / len(better) / PROMPTS).backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer_peer.step()
        optimizer_peer.zero_grad(set_to_none=True)

    taken = interleaved({"tree": ours("tree"), "k_sequences": ours("plain"), "pairs": pairwise}, repeats)
    return {
        "answers": num_answers,
        "s_per_prompt": {name: round(value / PROMPTS, 3) for name, value in taken.items()},
        "pairs_to_tree": round(taken["pairs"] / taken["tree"], 2),
        "k_sequences_to_tree": round(taken["k_sequences"] / taken["tree"], 2),
    }


def main() -> None:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--answers", type=int, nargs="*", default=[4, 9])
    parser.add_argument("--no-reward", action="store_true")
    args = parser.parse_args()
    keep_heap()
    dtype = pick_dtype("auto", CPU)
    folder = ensure_hf_folder(hub.resolve(args.model))
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "model": args.model,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sft": sft(folder, dtype, args.repeats),
    }
    print(json.dumps(result["sft"]), flush=True)
    result["reward"] = []
    for number in () if args.no_reward else args.answers:
        result["reward"].append(reward(folder, dtype, number, args.repeats))
        print(json.dumps(result["reward"][-1]), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
