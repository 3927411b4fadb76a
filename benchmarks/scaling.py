"""Loss against compute over four sizes (three seeds each), fitted; a fifth size is predicted before it is run.

    python benchmarks/scaling.py predict        # train the four sizes, fit, write the prediction down
    python benchmarks/scaling.py check          # train the fifth, write the outcome beside it
    python benchmarks/scaling.py                # both

Text: the source of the running Python's standard library without tests and code tables (some 10 million characters, there on
every machine), by characters; a file is held out by the hash of its text. No size reads anything twice: on
tinyshakespeare, which the fifth size had to pass over 3.5 times, the law of the smaller ones did not hold
(docs/methods/pretraining.md, which also says what came of Tang poems). Batch and learning rate follow from the dial of
`chatwright pretrain`; the length does too, with --tokens-per-weight 5 in place of its 20. Fit: L = E + A C^-a, C = 6 N D
operations, by least squares over the runs of four sizes; the interval is that of one new run: t-quantile times the root of
residual variance plus the variance of the fit (delta method). Both steps write benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sysconfig
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats

from chatwright.data.pretrain_corpus import write_corpus
from chatwright.data.shards import Shards
from chatwright.recipes import pretrain
from chatwright.recipes.pretrain_config import (
    HeldOutConfig,
    PretrainConfig,
    PretrainTrainConfig,
    SampleConfig,
    SizeConfig,
    model_config,
    plan_of,
)
from chatwright.text.bpe import train_characters

RESULT = Path(__file__).parent / "results" / "scaling.json"
SIZES = ((2, 48), (2, 64), (2, 96), (3, 112))  # (layers, width)
FIFTH = (4, 128)
VOCABULARY = 400
LEFT_OUT = {"test", "tests", "encodings", "site-packages", "dist-packages"}


def source_files(folder: Path) -> tuple[list[str], list[str]]:
    """(training, held out) texts of a folder of Python source, without exact duplicates, in a fixed mixed order."""
    files = sorted(f for f in folder.rglob("*.py") if not LEFT_OUT & set(f.relative_to(folder).parts))
    texts = dict.fromkeys(f.read_text(encoding="utf-8", errors="replace") for f in files)
    by_hash = sorted((hashlib.sha256(text.encode()).digest(), text) for text in texts if text)
    return [t for digest, t in by_hash if digest[-1] >= 13], [t for digest, t in by_hash if digest[-1] < 13]


def settings(out: Path, size: tuple[int, int], seed: int, ratio: float, vocab_size: int) -> PretrainConfig:
    """A run of `ratio` tokens per weight."""
    depth, width = size
    cfg = PretrainConfig(
        data=str(out / "corpus"),
        out=str(out / f"{depth}x{width}-{seed}"),
        depth=depth,
        context=128,
        seed=seed,
        size=SizeConfig(width=width, heads=round(width / 32)),
        held_out=HeldOutConfig(every_steps=10**9),
        sample=SampleConfig(prompts=()),
    )
    plan = plan_of(cfg, model_config(cfg, vocab_size))
    steps = max(round(ratio * plan.parameters / plan.batch_tokens), 1)
    fields = vars(cfg) | {"train": PretrainTrainConfig(steps=steps, batch_tokens=plan.batch_tokens)}
    return PretrainConfig(**fields)


def run(cfg: PretrainConfig) -> tuple[float, float]:
    """(operations, held-out loss in nats per character)."""
    shutil.rmtree(cfg.out, ignore_errors=True)
    result = pretrain.main(cfg)
    return 6.0 * result["parameters"] * result["tokens"], result["held_out_loss"]


def law(compute: np.ndarray, floor: float, gain: float, power: float) -> np.ndarray:
    """E + A C^-a, C in units of 1e12 operations."""
    return floor + gain * (compute / 1e12) ** -power


def predict(computes: np.ndarray, losses: np.ndarray, new: float) -> dict[str, Any]:
    """The fit, and the loss of one new run at `new` operations with its 95 % prediction interval."""
    bounds = ((0.0, 0.0, 0.01), (float(losses.min()), 100.0, 2.0))
    start = (0.8 * float(losses.min()), 1.0, 0.2)
    best, covariance = optimize.curve_fit(law, computes, losses, p0=start, bounds=bounds, max_nfev=100_000)
    residuals = losses - law(computes, *best)
    freedom = len(losses) - 3
    variance = float(residuals @ residuals) / freedom
    gradient = optimize.approx_fprime(best, lambda p: float(law(np.array([new]), *p)[0]), 1e-7)
    half = float(stats.t.ppf(0.975, freedom)) * float(np.sqrt(variance + gradient @ covariance @ gradient))
    value = float(law(np.array([new]), *best)[0])
    fit = dict(zip(("floor", "gain", "power"), map(float, best), strict=True))
    return {"fit": fit, "residual_sd": variance**0.5, "predicted": value, "low": value - half, "high": value + half}


def fit_and_predict(out: Path, vocab_size: int, characters: int, seeds: int, ratio: float) -> dict[str, Any]:
    """Train the four sizes; their runs, the fit and what it says of the fifth."""
    points = []
    for size in SIZES:
        for seed in range(seeds):
            points.append((size, *run(settings(out, size, seed, ratio, vocab_size))))
    cfg = settings(out, FIFTH, 0, ratio, vocab_size)
    plan = plan_of(cfg, model_config(cfg, vocab_size))
    compute = 6.0 * plan.parameters * plan.steps * plan.batch_tokens
    found = predict(np.array([c for _, c, _ in points]), np.array([loss for _, _, loss in points]), compute)
    rows = [{"layers": s[0], "width": s[1], "operations": c, "loss": loss} for s, c, loss in points]
    tokens = Shards.open(out / "corpus", "train").num_tokens
    passes = plan.steps * plan.batch_tokens / tokens
    about = {
        "python": platform.python_version(),  # whose library was read
        "seeds": seeds,
        "tokens_per_weight": ratio,
        "corpus_tokens": tokens,
        "corpus_characters": characters,
    }
    return {"date": str(date.today()), **about, "runs": rows, "new_operations": compute, "passes": passes, **found}


def main() -> None:
    """One of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("predict", "check"), help="both when left out")
    parser.add_argument("--source", default=sysconfig.get_paths()["stdlib"], help="folder of .py files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens-per-weight", type=float, default=5.0)
    parser.add_argument("--out", default="runs/scaling")
    args = parser.parse_args()
    out = Path(args.out)
    train, held_out = source_files(Path(args.source))
    tokenizer = train_characters(train, VOCABULARY)
    write_corpus(out / "corpus", tokenizer, train, held_out)
    if args.step != "check":
        characters = sum(map(len, train))
        found = fit_and_predict(out, tokenizer.vocab_size, characters, args.seeds, args.tokens_per_weight)
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"predicted {found['predicted']:.4f} [{found['low']:.4f}, {found['high']:.4f}], {found['passes']:.2f} passes")
    if args.step != "predict":
        found = json.loads(RESULT.read_text(encoding="utf-8"))
        fifth = [settings(out, FIFTH, n, found["tokens_per_weight"], tokenizer.vocab_size) for n in range(found["seeds"])]
        found["measured"] = [run(cfg)[1] for cfg in fifth]
        found["inside"] = [found["low"] <= loss <= found["high"] for loss in found["measured"]]
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"measured {', '.join(f'{loss:.4f}' for loss in found['measured'])}: inside {found['inside']}")


if __name__ == "__main__":
    main()
