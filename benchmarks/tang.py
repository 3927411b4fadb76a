"""A Tang-poem model (at most 10 million weights, at most 45 minutes of training) beside a 5-gram model.

    python benchmarks/tang.py [--minutes 30] [--masked-minutes 12]

Text: all Tang poems in simplified characters, lines joined (--text FILE, or CHATWRIGHT_TANG, or
../shared/data/text/tang_poems.jsonl.gz). Exact duplicates are removed before the split; a poem is held out by the hash of
its text (one in twenty). Two models of the same shape, causal and masked, each poem seeing itself only.

* Bits per character on held-out poems, their ends included, beside modified Kneser-Ney of order 5 on the same poems.
* The last character of held-out lines: top-1 and top-5 of the causal model, the 5-gram model and the commonest last
  characters (all three see what stands before), and of the masked model (which also sees the punctuation and the lines
  after it).
* What 「锄禾日当」 goes on with. That poem is forced into the **training** part: this shows that it was learned, no more.

Writes benchmarks/results/tang.json.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chatwright.data.masking import MaskConfig
from chatwright.data.pretrain_corpus import write_corpus
from chatwright.engine.machine import machine_line
from chatwright.engine.schedule import ScheduleConfig
from chatwright.evals.kneser_ney import BEGIN, KneserNey
from chatwright.generation.cloze import Cloze, ClozeParams, about_of
from chatwright.generation.lm import load
from chatwright.model.precision import pick_dtype
from chatwright.recipes import pretrain
from chatwright.recipes.pretrain_config import (
    HeldOutConfig,
    PretrainConfig,
    PretrainOptimConfig,
    PretrainTrainConfig,
    SampleConfig,
    SizeConfig,
)
from chatwright.statistics.bootstrap import ratio_interval
from chatwright.text.bpe import train_characters

RESULT = Path(__file__).parent / "results" / "tang.json"
TEXT = os.environ.get("CHATWRIGHT_TANG", "../shared/data/text/tang_poems.jsonl.gz")
KNOWN = "锄禾日当午"
ENDS = "，。！？；：、"
CONTEXT = 256


def poems(path: str) -> tuple[list[str], list[str], int]:
    """(training, held out, duplicates removed)."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        texts = ["".join(json.loads(line)["paragraphs"]) for line in file]
    unique = list(dict.fromkeys(text for text in texts if text))
    held_out = [t for t in unique if hashlib.sha256(t.encode()).digest()[0] < 13 and KNOWN not in t]
    chosen = set(held_out)
    return [t for t in unique if t not in chosen], held_out, len([t for t in texts if t]) - len(unique)


def settings(corpus: Path, out: Path, objective: Any, minutes: float) -> PretrainConfig:
    """8.3 million weights."""
    return PretrainConfig(
        data=str(corpus),
        out=str(out / objective),
        depth=6,
        context=CONTEXT,
        objective=objective,
        documents="apart",
        size=SizeConfig(width=288, heads=6),
        train=PretrainTrainConfig(minutes=minutes, batch_tokens=8192, micro_tokens=8192, save_every_steps=100),
        optim=PretrainOptimConfig(lr=0.006),
        schedule=ScheduleConfig(kind="wsd", final_share=0.0, decay_share=0.5, warmup_steps=20),
        mask=MaskConfig(share=0.3),  # twice BERT's: more is learned from a short run (arXiv 2202.08005)
        held_out=HeldOutConfig(every_steps=200, tokens=65_536),
        sample=SampleConfig(prompts=("春",)) if objective == "causal" else SampleConfig(),
    )


def lines_of(text: str) -> list[int]:
    """Places of the last characters of lines."""
    return [n for n in range(1, len(text) - 1) if text[n + 1] in ENDS and text[n] not in ENDS]


def hits(rankings: Sequence[Sequence[str]], right: Sequence[str], poem: Sequence[int]) -> dict[str, Any]:
    """Top-1 and top-5 with bootstrap intervals over poems."""
    found: dict[str, Any] = {}
    for name, num in (("top1", 1), ("top5", 5)):
        sums, counts = Counter[int](), Counter[int]()
        for ranking, answer, which in zip(rankings, right, poem, strict=True):
            sums[which] += answer in ranking[:num]
            counts[which] += 1
        keys = sorted(counts)
        interval = ratio_interval(np.array([float(sums[k]) for k in keys]), np.array([float(counts[k]) for k in keys]))
        found[name] = {key: round(value, 4) for key, value in vars(interval).items()}
    return found


@torch.inference_mode()
def rank_causal(cloze: Cloze, tasks: Sequence[tuple[str, int]]) -> list[list[str]]:
    """The five likeliest characters at each (poem, place), from what stands before."""
    rows = [(cloze.start_id, *cloze.lm.tokenizer.encode(text[:place])) for text, place in tasks]
    logprobs = torch.cat([part.topk(5).indices for part in cloze._next_logprobs(rows)])
    return [[cloze.lm.tokenizer.decode([token]) for token in row] for row in logprobs.tolist()]


@torch.inference_mode()
def rank_masked(cloze: Cloze, tasks: Sequence[tuple[str, int]]) -> list[list[str]]:
    """The same by a mask, the rest of the poem in sight."""
    found = []
    encode, model = cloze.lm.tokenizer.encode, cloze.lm.model
    for text, place in tasks:
        before, after = encode(text[:place]), encode(text[place + 1 :])
        row = torch.tensor([[cloze.start_id, *before, cloze.mask_id, *after, cloze.lm.tokenizer.eos_id]])
        both = torch.ones(1, row.shape[1], row.shape[1], dtype=torch.bool)
        hidden = model(row, mask_BTS=both)[0, len(before)]
        found.append([cloze.lm.tokenizer.decode([t]) for t in model.logits(hidden).topk(5).indices.tolist()])
    return found


def opened(path: str) -> Cloze:
    """A trained model, ready to fill blanks."""
    about = about_of(path)
    return Cloze(load(path, dtype="auto"), start_id=about["start_id"], mask_id=about["mask_id"])


def train(cfg: PretrainConfig) -> dict[str, Any]:
    """From nothing; the run's figures."""
    shutil.rmtree(cfg.out, ignore_errors=True)
    result = pretrain.main(cfg)
    kept = ("parameters", "train_seconds", "steps", "tokens", "loss")
    return {name: result[name] for name in kept} | {k: v for k, v in result.items() if k.startswith("held_out")}


def main() -> None:
    """Split, count, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--masked-minutes", type=float, default=12.0, help="0: no masked model")
    parser.add_argument("--lines", type=int, default=4000, help="last characters asked for")
    parser.add_argument("--out", default="runs/tang")
    args = parser.parse_args()
    out = Path(args.out)
    training, held_out, duplicates = poems(args.text)
    write_corpus(out / "corpus", train_characters(training), training, held_out)
    device = torch.device("cpu")
    report: dict[str, Any] = {"date": str(date.today()), "machine": machine_line(pick_dtype("auto", device), device)}
    report |= {"poems": len(training), "held_out_poems": len(held_out), "duplicates_removed": duplicates}
    report["causal"] = train(settings(out / "corpus", out, "causal", args.minutes))
    cloze = opened(str(out / "causal"))
    ngram = KneserNey(training, 5)
    # Poems that fit into the context, for both models alike; the number of the others is reported.
    fitting = [text for text in held_out if len(cloze.lm.tokenizer.encode(text)) <= CONTEXT - 2]
    characters = sum(map(len, fitting))
    with torch.inference_mode():
        ours = -sum(cloze.score(fitting, ends=True)) / math.log(2) / characters
    theirs = sum(map(ngram.bits, fitting)) / characters
    report["too_long"] = len(held_out) - len(fitting)
    report["bits_per_character"] = {"model": ours, "kneser_ney_5": theirs, "ratio": ours / theirs}
    tasks = [(n, text, place) for n, text in enumerate(fitting) for place in lines_of(text)]
    tasks = random.Random(0).sample(tasks, min(args.lines, len(tasks)))
    right, poem = [text[place] for _, text, place in tasks], [n for n, _, _ in tasks]
    plain = [(text, place) for _, text, place in tasks]
    last = Counter(text[place] for text in training for place in lines_of(text))
    majority = [character for character, _ in last.most_common(5)]
    report["last_character"] = {
        "asked": len(tasks),
        "majority": hits([majority] * len(tasks), right, poem),
        "kneser_ney_5": hits([ngram.top(BEGIN + text[:place]) for text, place in plain], right, poem),
        "causal": hits(rank_causal(cloze, plain), right, poem),
    }
    known = cloze.fill("锄禾日当_", ClozeParams(top=5), kind="causal")
    report["锄禾日当_ (in training)"] = [[f.text, round(f.probability, 4)] for f in known]
    if args.masked_minutes:
        report["masked"] = train(settings(out / "corpus", out, "masked", args.masked_minutes))
        masked = opened(str(out / "masked"))
        report["last_character"]["masked"] = hits(rank_masked(masked, plain), right, poem)
        known = masked.fill("锄禾日当_，汗滴禾下土。", ClozeParams(top=5), kind="masked")
        report["锄禾日当_，汗滴禾下土。 (in training, masked)"] = [[f.text, round(f.probability, 4)] for f in known]
    RESULT.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
