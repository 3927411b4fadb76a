"""The quickstart from three seeds, and the first one again without ptx: what the README claims, measured.

    python benchmarks/quickstart.py [--seeds 0 1 2] [--no-ptx] [--reuse] [--work FOLDER] [--results FOLDER]

Each run is the real command in a process of its own. Writes benchmarks/results/quickstart-seed-N.json (report.json of the
run, without machine paths) and quickstart-no-ptx.json, with the loss of SFT, PPO-ptx and PPO on the replay text that PPO-ptx
kept aside; prints every target of the quickstart with what was reached.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def checks(report: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """(name, value, goal, met) of every figure the quickstart must reach."""
    models, reward, rates = report["models"], report["reward_model"], report["win_rates"]
    ppo, sft = models["ppo"], models["sft"]
    base, over = rates["ppo_vs_base"], rates["ppo_vs_sft"]
    alike = report["answered_alike"]["ppo"] + report["greedy"]["ppo"]["duplicate_questions"]
    return [
        ("seconds", report["seconds"], "<= 720", report["seconds"] <= 720),
        ("peak GB", report["peak_rss_bytes"] / 1e9, "<= 8", report["peak_rss_bytes"] <= 8e9),
        ("RM accuracy", reward["accuracy"], ">= 0.65", reward["accuracy"] >= 0.65),
        ("RM accuracy, low", reward["accuracy_low"], f"> {reward['length_baseline']:.3f} (length)",
         reward["accuracy_low"] > reward["length_baseline"]),
        ("PPO preferred to base", base["rate"], ">= 0.85", base["rate"] >= 0.85),
        ("PPO preferred to base, low", base["low"], "> 0.65", base["low"] > 0.65),
        ("PPO preferred to SFT, low", over["low"], "> 0.50", over["low"] > 0.50),
        ("SFT mean score", sft["gold_mean"], "<= 0.6", sft["gold_mean"] <= 0.6),
        ("PPO grade", ppo["fk_grade"], "<= 5", ppo["fk_grade"] <= 5),
        ("PPO ended", ppo["ended_share"], ">= 0.95", ppo["ended_share"] >= 0.95),
        ("distinct-2 to SFT's", ppo["distinct_2"] / sft["distinct_2"], ">= 0.8",
         ppo["distinct_2"] >= 0.8 * sft["distinct_2"]),
        ("questions answered alike", float(alike), "0", alike == 0),
        ("KL to SFT, nats/token", ppo["kl_nats_per_token"], "<= 0.5", ppo["kl_nats_per_token"] <= 0.5),
        ("ties", report["labels"]["tie_share"], "0.10 to 0.35", 0.10 <= report["labels"]["tie_share"] <= 0.35),
        ("flips", report["labels"]["flip_share"], "0.10 to 0.20", 0.10 <= report["labels"]["flip_share"] <= 0.20),
    ]  # fmt: skip


def keep(name: str, folder: Path, report: dict[str, Any], results: Path) -> None:
    """Write a report to `results`, without machine paths."""
    kept = json.loads(json.dumps(report).replace(str(folder), f"runs/{name}"))
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(name: str, folder: Path, results: Path, *flags: str, reuse: bool = False) -> dict[str, Any]:
    """One quickstart in its own process; its report goes to `results`. `reuse`: a folder with a report is kept."""
    if not (reuse and (folder / "report.json").is_file()):
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "chatwright", "quickstart", "--out", str(folder), *flags]
        subprocess.run(command, check=True)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    keep(name, folder, report, results)
    print(f"\n== {name}")
    for check, value, goal, met in checks(report):
        print(f"{'ok  ' if met else 'MISS'}  {check:<28} {value:10.3f}   {goal}")
    return report


def replay_losses(with_ptx: Path, without: Path) -> dict[str, float]:
    """Nats per token on the blocks of the first chain's replay text that its PPO did not train on."""
    from chatwright.data.ptx import open_ptx
    from chatwright.generation.lm import load_model
    from chatwright.objectives.lm import mean_nll

    losses = {}
    folders = {"sft": with_ptx / "1-sft", "ppo-ptx": with_ptx / "6-ppo", "ppo": without / "6-ppo"}
    for name, folder in folders.items():
        model, tokenizer = load_model(folder, dtype="float32", device="cpu")
        text = open_ptx(
            (str(with_ptx / "5-replay.jsonl"),), tokenizer, block_tokens=128, held_out=16, seed=0, micro_tokens=1024,
            device=model.embed.weight.device,
        )  # fmt: skip
        losses[name] = round(mean_nll(model, text.held_out()), 4)
    return losses


def main() -> int:
    """Run what was asked for; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--no-ptx", action="store_true", help="also run the first seed without ptx (needs --seeds)")
    parser.add_argument("--reuse", action="store_true", help="keep folders of seeds that are finished")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-quickstart"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="where reports are kept")
    args = parser.parse_args()
    missed = 0
    for seed in args.seeds:
        folder = args.work / f"seed-{seed}"
        report = run(f"quickstart-seed-{seed}", folder, args.results, "--seed", str(seed), reuse=args.reuse)
        missed += sum(not met for *_, met in checks(report))
    if args.no_ptx:
        first = args.work / f"seed-{args.seeds[0]}"
        without = ("--seed", str(args.seeds[0]), "--stages.ptx-gamma", "0")
        report = run("quickstart-no-ptx", args.work / "no-ptx", args.results, *without)
        report["replay_losses"] = replay_losses(first, args.work / "no-ptx")
        keep("quickstart-no-ptx", args.work / "no-ptx", report, args.results)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
