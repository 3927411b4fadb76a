"""tinyshakespeare by characters: nanoGPT's split and two of its figures, each in a given time on two cores.

    python benchmarks/tinyshakespeare.py minute             # <= 60 s of training: 1.88 (nanoGPT: about 3 minutes on a CPU)
    python benchmarks/tinyshakespeare.py hour               # <= 60 min of training: 1.4697 (nanoGPT: 3 minutes of an A100)
    python benchmarks/tinyshakespeare.py changes            # what each change buys: one run of --minutes for every line

The first 90 % of the text is trained on, the last 10 % measured: mean loss in nats per character over the whole part, in
windows of 256 that do not overlap, every character but the first predicted once. No ensemble; nothing is chosen by that
loss: what is reported is the end of the run. Training time is `train_seconds` of the run: all steps, without measurements
and samples.
The text is not in the repository: --text FILE, or CHATWRIGHT_TINYSHAKESPEARE, or ../shared/data/text/tinyshakespeare.txt.
Writes benchmarks/results/tinyshakespeare-NAME.json with the curve.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from chatwright.data.pretrain_corpus import write_corpus
from chatwright.engine.machine import machine_line
from chatwright.engine.metrics import read_metrics
from chatwright.engine.schedule import ScheduleConfig
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
from chatwright.text.bpe import train_characters

RESULTS = Path(__file__).parent / "results"
TEXT = os.environ.get("CHATWRIGHT_TINYSHAKESPEARE", "../shared/data/text/tinyshakespeare.txt")
WSD = ScheduleConfig(kind="wsd", final_share=0.0, decay_share=0.5, warmup_steps=10)
NAMES = ("minute", "hour", "changes")
TARGETS = {"minute": 1.88, "hour": 1.4697}


def minute(data: str, out: Path) -> PretrainConfig:
    """0.8 million weights, small steps: as many updates as a minute holds."""
    return PretrainConfig(
        data=data,
        out=str(out),
        depth=4,
        context=256,
        size=SizeConfig(width=128, heads=4),
        train=PretrainTrainConfig(minutes=0.97, batch_tokens=2048, micro_tokens=2048),
        optim=PretrainOptimConfig(lr=0.01),
        schedule=WSD,
        held_out=HeldOutConfig(every_steps=50, tokens=0),
        sample=SampleConfig(prompts=("\n",), max_new_tokens=200),
    )


def hour(data: str, out: Path) -> PretrainConfig:
    """5 million weights, residual dropout: the text is passed over some twenty times."""
    base = minute(data, out)
    return replace(
        base,
        depth=6,
        size=SizeConfig(width=256, heads=4),
        train=PretrainTrainConfig(minutes=59.5, batch_tokens=8192, micro_tokens=8192, dropout=0.2, save_every_steps=200),
        optim=PretrainOptimConfig(lr=0.006, weight_decay=0.3),
        held_out=HeldOutConfig(every_steps=200, tokens=0),
    )


def changes(data: str, out: Path, minutes: float) -> dict[str, PretrainConfig]:
    """The hour's settings in less time, and the same with one thing taken away or put in."""
    base = hour(data, out)
    base = replace(base, train=replace(base.train, minutes=minutes, save_every_steps=0))
    found = {
        "all": base,
        "AdamW for everything": replace(base, optim=replace(base.optim, kind="adamw", lr=0.002)),
        "cosine to a tenth": replace(base, schedule=ScheduleConfig(kind="cosine", warmup_steps=10)),
        "no dropout": replace(base, train=replace(base.train, dropout=0.0)),
        "weight decay 0.1": replace(base, optim=replace(base.optim, weight_decay=0.1)),
        "no qk-norm": replace(base, size=replace(base.size, qk_norm=False)),
        "twice the batch": replace(base, train=replace(base.train, batch_tokens=16384)),
        "average of weights 0.995": replace(base, train=replace(base.train, ema_decay=0.995)),
        "width 192": replace(base, size=replace(base.size, width=192, heads=3)),
    }
    return {name: replace(cfg, out=str(out / f"change-{n}")) for n, (name, cfg) in enumerate(found.items())}


def run(cfg: PretrainConfig) -> dict[str, Any]:
    """One run from nothing; its figures and its curve of (share of the run, held-out loss)."""
    shutil.rmtree(cfg.out, ignore_errors=True)
    result = pretrain.main(cfg)
    rows = read_metrics(Path(cfg.out) / "metrics.jsonl")
    curve = [[round(r["step"] / result["steps"], 3), round(r["held_out_loss"], 4)] for r in rows if "held_out_loss" in r]
    kept = ("held_out_loss", "loss", "train_seconds", "steps", "tokens", "parameters", "batch_tokens", "lr", "skipped")
    return {name: result[name] for name in kept} | {"curve": [*curve, [1.0, round(result["held_out_loss"], 4)]]}


def main() -> None:
    """Build the corpus, train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}; all when left out")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run of `changes`")
    parser.add_argument("--out", default="runs/tinyshakespeare")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    out = Path(args.out)
    text = Path(args.text).read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    write_corpus(out / "corpus", train_characters([text]), [text[:cut]], [text[cut:]], ends=False)
    device = torch.device("cpu")
    about = {"date": str(date.today()), "machine": machine_line(pick_dtype("auto", device), device)}
    RESULTS.mkdir(exist_ok=True)
    for name in args.names:
        figures = about | measured(name, out, args.minutes)
        (RESULTS / f"tinyshakespeare-{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measured(name: str, out: Path, minutes: float) -> dict[str, Any]:
    """The figures of one of NAMES, printed."""
    if name == "changes":
        table = {name: run(cfg) for name, cfg in changes(str(out / "corpus"), out, minutes).items()}
        for name, row in table.items():
            print(f"{row['held_out_loss']:.4f}  {row['tokens']:>12,} tokens  {name}")
        return {"minutes": minutes, "runs": table}
    make = minute if name == "minute" else hour
    figures = run(make(str(out / "corpus"), out / name)) | {"target": TARGETS[name]}
    print(
        f"held-out loss {figures['held_out_loss']:.4f} (target {figures['target']}) after "
        f"{figures['train_seconds']:.1f} s of training"
    )
    return figures


if __name__ == "__main__":
    main()
