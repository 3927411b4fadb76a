"""Reward models on real human rankings: QA-Feedback (K = 4, ties), OASST (K = 2..9), HH-harmless (pairs).

    python benchmarks/human_rankings.py [--parts mixed ties layout] [--work FOLDER] [--results FOLDER]
        [--steps N --rankings N --held-out SHARE --max-tokens N]

mixed   one reward model on all three sources, split by prompt: accuracy with interval beside the length baseline, per source
ties    drop, soft, rao_kupper, davidson on QA-Feedback, the same data and steps
layout  K-wise batch elements against pairs torn apart and shuffled, on QA-Feedback, as many pairs and steps

Every run is `chatwright reward`, one epoch unless --steps says otherwise, the upper 15 of 30 blocks trained; its flags stand
in the kept file. The trunk is SmolLM2-135M-Instruct from a 4-bit file: small and quantised.
Needs ../shared/data. Writes benchmarks/results/human-rankings.json and the mixed run's report card.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "rankings"
RESULTS = Path(__file__).parent / "results"
SOURCES = {"qa-feedback": "qa_feedback.jsonl", "oasst": "oasst_trees.jsonl", "hh-harmless": "hh_harmless.jsonl.gz"}


def chatwright(*arguments: str) -> None:
    """Run a command as a user would."""
    subprocess.run([sys.executable, "-m", "chatwright", *arguments], check=True)


def prepare(work: Path, num_pairs: int) -> dict[str, Path]:
    """Import each source into rankings.jsonl with its name in `source`; HH is thinned to every n-th pair."""
    out = {}
    for name, file in SOURCES.items():
        path = DATA / file
        if name == "hh-harmless":
            lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
            path = work / "hh.jsonl"
            path.write_text("\n".join(lines[:: max(1, len(lines) // num_pairs)]) + "\n", encoding="utf-8")
        chatwright("data", "import", str(path), "--out", str(work / name))
        rows = [json.loads(line) for line in (work / name / "rankings.jsonl").read_text(encoding="utf-8").splitlines()]
        target = work / f"{name}.jsonl"
        target.write_text("".join(json.dumps({**row, "source": name}) + "\n" for row in rows), encoding="utf-8")
        out[name] = target
    return out


def reward(work: Path, name: str, data: list[Path], *flags: str) -> dict[str, Any]:
    """Train and return the report card."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    chatwright("reward", "--data", *map(str, data), "--out", str(folder), *flags)
    card: dict[str, Any] = json.loads((folder / "report_card.json").read_text(encoding="utf-8"))
    card["seconds"] = json.loads((folder / "result.json").read_text(encoding="utf-8"))["seconds"]
    card["flags"] = " ".join(flags)
    return card


def _first(path: Path, count: int) -> Path:
    """The first `count` rankings as a file of their own; 0: the file itself."""
    if count == 0:
        return path
    target = path.with_name(f"{path.stem}-{count}.jsonl")
    target.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]), encoding="utf-8")
    return target


def _merged(common: list[str], flags: list[str]) -> list[str]:
    """The flags of one run win over the common ones (a flag given twice is refused)."""
    chosen = dict(zip(common[::2], common[1::2], strict=True)) | dict(zip(flags[::2], flags[1::2], strict=True))
    return [word for pair in chosen.items() for word in pair]


def line(name: str, card: dict[str, Any]) -> str:
    """One row of the summary."""
    accuracy = card["accuracy"]
    return (
        f"{name:<24} {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]  length "
        f"{card['length_baseline']:.3f}  tie NLL {card['tie_nll']['value']:.3f}  {card['seconds']:.0f} s"
    )


def main() -> None:
    """Run the parts asked for and keep their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=["mixed", "ties", "layout"])
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-human-rankings"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are kept")
    parser.add_argument("--pairs", type=int, default=470, help="HH pairs used")
    parser.add_argument("--max-tokens", type=int, default=320, help="limit of prompt plus one answer")
    parser.add_argument("--steps", type=int, default=0, help="steps of the ties and layout runs; 0: one pass over the data")
    parser.add_argument("--rankings", type=int, default=0, help="QA-Feedback rankings of the ties and layout runs; 0: all")
    parser.add_argument("--held-out", type=float, default=0.25, help="share of prompts held out")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    sources = prepare(args.work, args.pairs)
    common = [
        "--train.max-tokens", str(args.max_tokens), "--train.batch-size", "4", "--train.frozen-layers", "15",
        "--train.head-init", "zeros", "--train.head-lr", "1e-3", "--optim.lr", "1e-4", "--eval.share", str(args.held_out),
    ]  # fmt: skip
    args.results.mkdir(parents=True, exist_ok=True)
    kept_file = args.results / "human-rankings.json"
    kept: dict[str, Any] = json.loads(kept_file.read_text(encoding="utf-8")) if kept_file.is_file() else {}
    runs: dict[str, tuple[list[Path], list[str]]] = {}
    if "mixed" in args.parts:
        runs["mixed"] = (list(sources.values()), [])
    compared = [_first(sources["qa-feedback"], args.rankings)]
    steps = ["--train.steps", str(args.steps)]
    if "ties" in args.parts:
        runs |= {f"ties-{mode}": (compared, ["--train.ties", mode, *steps])
                 for mode in ("drop", "soft", "rao_kupper", "davidson")}  # fmt: skip
    if "layout" in args.parts:
        # 24 pairs weigh as much as 4 rankings of K = 4: the same number of steps over the same number of pairs.
        runs["layout-kwise"] = (compared, steps)
        runs["layout-shuffled-pairs"] = (
            compared, ["--train.shuffled-pairs", "true", "--train.batch-size", "24", *steps])  # fmt: skip
    for name, (data, flags) in runs.items():
        kept[name] = reward(args.work, name, data, *_merged(common, flags))
        kept[name]["data"] = {path.stem: sum(1 for _ in path.open(encoding="utf-8")) for path in data}
        if name == "mixed":
            shutil.copyfile(args.work / name / "report_card.json", args.results / "human-rankings-report-card.json")
        print(line(name, kept[name]))
        for source, figure in kept[name].get("by_source", {}).items():
            print(f"    {source:<20} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] n={figure['n']} "
                  f"length {figure['length_baseline']:.3f}")  # fmt: skip
        kept_file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
