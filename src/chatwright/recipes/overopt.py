"""Over-optimisation: how far a policy may go from its start before what is really wanted falls (arXiv 2210.10760).

The proxy is the reward model that chose the answers; gold is another judge. Best-of-n is swept from one file of samples
(all n at once, unbiased); PPO from an evaluation of its checkpoints. Each sweep gets the paper's curve, with intervals.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.engine.checkpoint import write_text
from chatwright.errors import ConfigError, DataError
from chatwright.evals.harness import Answer, Judge
from chatwright.evals.overoptimisation import Kind, best_of_n_sweep, fit_curve
from chatwright.jsonl import check_writable, read_jsonl
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.progress import console
from chatwright.recipes.judges import check_prompts, open_judge
from chatwright.records import Prompt, load_prompts


@dataclass(frozen=True, kw_only=True)
class OveroptConfig:
    """Gold reward against the distance from the start, and where to stop."""

    data: tuple[str, ...] = ()
    """Files of `chatwright bestofn`: samples with the proxy's scores."""
    evaluation: str = ""
    """Folder of `chatwright evaluate --reference START` over checkpoints of one PPO run; empty: no PPO curve."""
    start: str = "sft"
    """NAME in that evaluation where PPO started (its --reference)."""
    judge: str = "museum-en"
    """Gold: museum-en or museum-zh (the noise-free rubric), or the run folder of another reward model."""
    out: str = "overopt.json"
    """File to write: every point, the fitted curves, d* and the KL to stop at."""
    seed: int = 0
    """Fixes the bootstrap."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format."""


def main(cfg: OveroptConfig) -> dict[str, Any]:
    """Fit, print and write the curves; returns the file's contents."""
    if not cfg.data and not cfg.evaluation:
        raise ConfigError(
            "overopt: give --data (files of `chatwright bestofn`), --evaluation (a folder of `evaluate`), or both"
        )
    check_writable(cfg.out)
    device = pick_device(cfg.device)
    judge, _ = open_judge(cfg.judge, device, pick_dtype(cfg.precision, device))
    result: dict[str, Any] = {"judge": cfg.judge}
    if cfg.data:
        result["bestofn"] = _best_of_n(cfg, judge)
    if cfg.evaluation:
        result["ppo"] = _ppo(cfg, judge)
    write_text(Path(cfg.out), json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name in ("bestofn", "ppo"):
        if name in result:
            _print(name, result[name])
    console().print(f"overopt: {cfg.out}")
    return result


def _best_of_n(cfg: OveroptConfig, judge: Judge) -> dict[str, Any]:
    proxies: list[list[float]] = []
    golds: list[list[float]] = []
    for file in cfg.data:
        gold = _gold(cfg, Path(file), judge, "finish_reasons")
        scores = [row.get("scores") for _, row in read_jsonl(Path(file))]
        for number, (score, own) in enumerate(zip(scores, gold, strict=True), start=1):
            if not isinstance(score, list) or len(score) != len(own):
                raise DataError(f"{file}:{number}: scores: needs one per completion; write it with `chatwright bestofn`")
            proxies.append([float(value) for value in score])
        golds += gold
    most = min(map(len, golds))
    ns = sorted({1, most, *(2**power for power in range(most.bit_length()) if 2**power < most)})
    kl, gold_by_n = best_of_n_sweep(proxies, golds, ns)
    _, proxy_by_n = best_of_n_sweep(proxies, proxies, ns)
    points = [
        {"n": n, "kl_nats": k, "gold": _mean(g), "proxy": _mean(p)}
        for n, k, g, p in zip(ns, kl, gold_by_n, proxy_by_n, strict=True)
    ]
    return _curve("bon", points, kl, gold_by_n, gold_by_n[0], cfg.seed)


def _ppo(cfg: OveroptConfig, judge: Judge) -> dict[str, Any]:
    folder = Path(cfg.evaluation)
    try:
        kls = json.loads((folder / "kl.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'kl.json'}: cannot be read ({error}); name a folder of `chatwright evaluate`") from None
    measured = {name: float(found["kl_nats_per_answer"]) for name, found in kls.items() if found}
    if cfg.start not in measured:
        raise ConfigError(f"--start {cfg.start}: is not in {folder} with a KL (there: {', '.join(measured) or 'none'})")
    gold = {name: _gold(cfg, folder / f"{name}-sampled.jsonl", judge, "finish_reason") for name in measured}
    by_prompt = {name: [_mean(row) for row in rows] for name, rows in gold.items()}
    # k1 of a finite sample may be a little below 0: such a point has not moved.
    kl = [max(0.0, measured[name]) for name in measured]
    points = [{"model": name, "kl_nats": k, "gold": _mean(by_prompt[name])} for name, k in zip(measured, kl, strict=True)]
    return _curve("rl", points, kl, list(by_prompt.values()), by_prompt[cfg.start], cfg.seed)


def _gold(cfg: OveroptConfig, path: Path, judge: Judge, reasons: str) -> list[list[float]]:
    """Gold of every sample of a file [G][N]."""
    prompts = load_prompts([str(path)])
    check_prompts(cfg.judge, prompts, str(path))
    rows = [row for _, row in read_jsonl(path)]
    return [_judged(prompt, row, judge, reasons, path) for prompt, row in zip(prompts, rows, strict=True)]


def _judged(prompt: Prompt, row: dict[str, Any], judge: Judge, reasons: str, path: Path) -> list[float]:
    texts, ends = row.get("completions"), row.get(reasons)
    if not isinstance(texts, list) or not isinstance(ends, list) or len(texts) != len(ends) or not texts:
        raise DataError(f"{path}: a row needs `completions` and as many `{reasons}`; write the file again with this version")
    return [judge(prompt, Answer(text=text, ended=end == "stop")).total for text, end in zip(texts, ends, strict=True)]


def _curve(
    kind: Kind, points: list[dict[str, Any]], kl: list[float], gold: list[list[float]], start: list[float], seed: int
) -> dict[str, Any]:
    fit = fit_curve(kind, kl, gold, start, seed=seed)
    return {"prompts": len(start), "points": points, "fit": fit.to_dict()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _print(name: str, found: dict[str, Any]) -> None:
    for point in found["points"]:
        label = point.get("model", f"n = {point.get('n')}")
        proxy = f", proxy {point['proxy']:+.3f}" if "proxy" in point else ""
        console().print(f"{name} {label}: KL {point['kl_nats']:.2f} nats, gold {point['gold']:.3f}{proxy}")
    fit = found["fit"]
    peak = fit["peak_d"]
    if fit["recommended_kl"] == 0:
        console().print(f"{name}: the judge likes none of these better than the start: do not optimise against this reward")
        return
    seen = f"no sure peak ({fit['peak_share']:.0%} of the bootstrap draws have one)"
    if peak is not None:
        seen = f"d* {peak['value']:.2f} [{peak['low']:.2f}, {peak['high']:.2f}]"
    console().print(f"{name}: {seen}; stop at {fit['recommended_kl']:.2f} nats (measured up to {fit['measured_kl']:.2f})")
