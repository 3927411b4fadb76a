"""Generation speed (performance.md P3): our tokens/s beside transformers and beside the matrix-product limit.

    python benchmarks/generate.py                       # batches 1 8 32 64, prompt 64 + 64 new tokens, about 4 minutes
    python benchmarks/generate.py --batches 8 --peer-batches --new 32

Everything is measured in one run, interleaved, and the medians are compared, because the machine's speed changes from
minute to minute. The limit is the time of one decode step's matrix products alone (30 layers and the head, packed bf16).
`queue` is 600 answers of 20 to 60 tokens through 64 rows: how near continuous batching comes to a batch that is full.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from chatwright import hub
from chatwright.generation.api import SamplingParams
from chatwright.generation.decoder import Decoder
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.precision import pick_dtype
from chatwright.model.transformer import Transformer

RESULTS = Path(__file__).parent / "results" / "generate.json"
NO_STOP: frozenset[int] = frozenset()


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def random_prompts(count: int, length: int, vocab: int) -> list[list[int]]:
    """Prompts without a common beginning, so that nothing but the batch is shared."""
    drawn = torch.randint(1000, vocab, (count, length), generator=torch.Generator().manual_seed(count))
    return [list(row) for row in drawn.tolist()]


def limit_s(decoder: Decoder, batch: int, repeats: int = 5) -> float:
    """Seconds of the matrix products of one decode step, median."""
    cfg = decoder.config
    x = torch.randn(batch, cfg.hidden_size).to(decoder.dtype)
    inner = torch.randn(batch, cfg.intermediate_size).to(decoder.dtype)
    mixed = torch.randn(batch, cfg.num_heads * cfg.head_dim).to(decoder.dtype)

    def products() -> None:
        for layer in decoder.layers:
            layer.qkv.apply(x)
            layer.out.apply(mixed)
            if layer.gate is not None:
                layer.gate.apply(x)
            layer.up.apply(x)
            layer.down.apply(inner)
        decoder.head.apply(x)

    with torch.inference_mode():
        products()
        return statistics.median(seconds(products) for _ in range(repeats))


class Peer:
    """transformers `generate` in the same dtype."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        import transformers

        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def generate(self, prompts: list[list[int]], num_new: int) -> None:
        """Exactly `num_new` tokens after every prompt."""
        ids = torch.tensor(prompts)
        settings = {"max_new_tokens": num_new, "min_new_tokens": num_new, "do_sample": True, "top_k": 0, "pad_token_id": 0}
        with torch.inference_mode():
            out = self.model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        assert out.shape[1] == len(prompts[0]) + num_new


def measure(model: Transformer, tokenizer: Any, peer: Peer | None, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    generator = LocalGenerator(model, tokenizer, max_batch=batch)
    prompts = random_prompts(batch, args.prompt, model.config.vocab_size)
    params = SamplingParams(max_new_tokens=args.new, stop_ids=NO_STOP)
    generator.generate(prompts, SamplingParams(max_new_tokens=2, stop_ids=NO_STOP))
    decoder = generator._ready_decoder()
    ours, theirs, limits = [], [], []
    for _ in range(args.repeats):
        limits.append(limit_s(decoder, batch))
        ours.append(seconds(lambda: generator.generate(prompts, params)))
        if peer is not None:
            theirs.append(seconds(lambda: peer.generate(prompts, args.new)))
    rate = batch * args.new / statistics.median(ours)
    row: dict[str, Any] = {
        "batch": batch,
        "tokens_per_s": round(rate, 1),
        "limit_tokens_per_s": round(batch / statistics.median(limits), 1),
        "share_of_limit": round(rate * statistics.median(limits) / batch, 3),
    }
    if theirs:
        row["transformers_tokens_per_s"] = round(batch * args.new / statistics.median(theirs), 1)
        row["ratio"] = round(statistics.median(theirs) / statistics.median(ours), 2)
    return row


def measure_queue(model: Transformer, tokenizer: Any, count: int = 600, rows: int = 64) -> dict[str, Any]:
    """600 answers of different lengths, 4 to a prompt, against one full batch of the same tokens per row."""
    generator = LocalGenerator(model, tokenizer, max_batch=rows)
    prompts = random_prompts(count // 4, 40, model.config.vocab_size)
    lengths = torch.randint(20, 61, (count // 4,), generator=torch.Generator().manual_seed(0)).tolist()
    params = [SamplingParams(max_new_tokens=length, stop_ids=NO_STOP, n=4) for length in lengths]
    full = SamplingParams(max_new_tokens=40, stop_ids=NO_STOP, n=4)
    batch_s = statistics.median(seconds(lambda: generator.generate(prompts[: rows // 4], full)) for _ in range(3))
    queue_s = seconds(lambda: generator.generate(prompts, params))
    rate, full_rate = sum(lengths) * 4 / queue_s, rows * 40 / batch_s
    return {
        "answers": count,
        "seconds": round(queue_s, 2),
        "tokens_per_s": round(rate, 1),
        "full_batch_tokens_per_s": round(full_rate, 1),
        "share_of_full_batch": round(rate / full_rate, 3),
    }


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=hub.DEFAULT)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--peer-batches", type=int, nargs="*", default=None, help="default: all batches")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-queue", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    dtype = pick_dtype("auto", torch.device("cpu")) if args.dtype == "auto" else getattr(torch, args.dtype)
    folder = ensure_hf_folder(hub.resolve(args.model))
    model, tokenizer = load_model(args.model, dtype=dtype, device="cpu")
    peers = args.batches if args.peer_batches is None else args.peer_batches
    peer = Peer(folder, dtype) if peers else None
    rows = []
    for batch in args.batches:
        rows.append(row := measure(model, tokenizer, peer if batch in peers else None, batch, args))
        print(json.dumps(row), flush=True)
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "model": args.model,
        "dtype": str(dtype).removeprefix("torch."),
        "prompt_tokens": args.prompt,
        "new_tokens": args.new,
        "repeats": args.repeats,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
    }
    if not args.no_queue:
        result["queue"] = measure_queue(model, tokenizer)
        print(json.dumps(result["queue"]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
