"""Loss against compute over four sizes (three seeds each), fitted; a fifth size is predicted before it is run.

    python benchmarks/scaling.py [--seeds 3] [--tokens-per-weight 4]

Text: tinyshakespeare by characters (see tinyshakespeare.py for where it is looked for), less than four passes over it: until
then repeated text is said to be worth about as much as new text (arXiv 2305.16264). Batch and learning rate follow from the
dial of `chatwright pretrain`. Fit: L = E + A C^-a, C = 6 N D operations, by least squares over the runs of four sizes; the
interval is that of one new run: t-quantile times the root of residual variance plus the variance of the fit (delta method).
The prediction is written to benchmarks/results/scaling.json before the fifth size is trained, then the outcome beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats
from tinyshakespeare import TEXT

from chatwright.data.pretrain_corpus import write_corpus
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
SIZES = ((1, 48), (2, 64), (2, 96), (3, 112))  # (layers, width)
FIFTH = (4, 128)


def settings(data: str, out: Path, size: tuple[int, int], seed: int, ratio: float, vocab_size: int) -> PretrainConfig:
    """A run of `ratio` tokens per weight."""
    depth, width = size
    cfg = PretrainConfig(
        data=data,
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


def main() -> None:
    """Train the four sizes, predict, train the fifth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens-per-weight", type=float, default=4.0)
    parser.add_argument("--out", default="runs/scaling")
    args = parser.parse_args()
    out = Path(args.out)
    text = Path(args.text).read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    tokenizer = train_characters([text])
    write_corpus(out / "corpus", tokenizer, [text[:cut]], [text[cut:]], ends=False)

    def one(size: tuple[int, int], seed: int) -> PretrainConfig:
        return settings(str(out / "corpus"), out, size, seed, args.tokens_per_weight, tokenizer.vocab_size)

    points = [(size, *run(one(size, seed))) for size in SIZES for seed in range(args.seeds)]
    cfg = one(FIFTH, 0)
    plan = plan_of(cfg, model_config(cfg, tokenizer.vocab_size))
    compute = 6.0 * plan.parameters * plan.steps * plan.batch_tokens
    found = predict(np.array([c for _, c, _ in points]), np.array([loss for _, _, loss in points]), compute)
    rows = [{"layers": s[0], "width": s[1], "operations": c, "loss": loss} for s, c, loss in points]
    passes = plan.steps * plan.batch_tokens / cut
    report: dict[str, Any] = {"date": str(date.today()), "runs": rows, "new_operations": compute, "passes": passes, **found}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"predicted {found['predicted']:.4f} [{found['low']:.4f}, {found['high']:.4f}] at {compute:.3g} operations")
    report["measured"] = [run(one(FIFTH, seed))[1] for seed in range(args.seeds)]
    report["inside"] = [found["low"] <= loss <= found["high"] for loss in report["measured"]]
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"measured {', '.join(f'{loss:.4f}' for loss in report['measured'])}: inside {report['inside']}")


if __name__ == "__main__":
    main()
