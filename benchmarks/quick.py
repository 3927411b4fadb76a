"""Every figure of the READMEs measured again, with less repetition: at most an hour on two cores that do nothing else.

    python benchmarks/quick.py [--only RUN ...] [--resume] [--list] [--work FOLDER]     (make bench-quick)

Runs the command behind each claim of readme_claims.py, the quickstart with one seed, the longer ones on less data, and
prints: claim, figures of the README, measured now, holds or not. What it means to hold is the claim's rule: an interval that
overlaps the README's, or one that lies on the side that the README says. After a run that fails the next one is begun.
--list prints commands and claims and runs nothing. --resume keeps the reports of runs that have ended. --only: the others'
claims are not measured.

Writes benchmarks/results/quick.json, or with --only quick.json in the work folder. Exit status 1 if a claim does not hold or
was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "benchmarks")]

from readme_claims import CLAIMS, RESULTS, Claim, context  # noqa: E402

from this_machine import commit, machine  # noqa: E402

KEPT = RESULTS / "quick.json"
ZH_FLAGS = "--stages.rank-prompts 140 --stages.ppo-steps 5 --stages.eval-questions 30 --stages.replay-texts 24"
WHEEL_STAGES = '{"frozen_layers": 10, "reward_epochs": 2, "max_new_tokens": 96, "eval_max_new_tokens": 96, "ppo_steps": 8}'


@dataclass(frozen=True, kw_only=True)
class Run:
    """A command that measures something."""

    command: tuple[str, ...]
    """Arguments of Python; `{work}` is the work folder, `{results}` its folder of reports."""
    report: str
    """The report it writes, with the same fields."""
    minutes: int
    """About how long it takes with nothing beside it; it is ended after three times that."""
    reduced: str
    """What is less than in the run behind the README."""
    judge: str
    """Who or what judges."""


RUNS = {
    "quickstart": Run(
        command=("benchmarks/quickstart.py", "--seeds", "0", "--work", "{work}/quickstart", "--results", "{results}"),
        report="{results}/quickstart-seed-0.json", minutes=12, reduced="one seed of three", judge="rubric museum-en",
    ),
    "no-ptx": Run(
        command=("benchmarks/quickstart.py", "--seeds", "0", "--no-ptx", "--reuse", "--work", "{work}/quickstart",
                 "--results", "{results}"),
        report="{results}/quickstart-no-ptx.json", minutes=11, reduced="nothing", judge="none: loss on text",
    ),
    "human-rankings": Run(
        command=("benchmarks/human_rankings.py", "--parts", "mixed", "--pairs", "240", "--max-tokens", "192",
                 "--work", "{work}/human-rankings", "--results", "{results}"),
        report="{results}/human-rankings.json", minutes=7, reduced="texts of 192 tokens, half of the HH pairs",
        judge="people's rankings",
    ),
    "flywheel": Run(
        command=("benchmarks/flywheel.py", "--most", "140", "--people", "15", "--labellers", "3", "--stages", WHEEL_STAGES,
                 "--work", "{work}/flywheel", "--out", "{results}/flywheel.json"),
        report="{results}/flywheel.json", minutes=12, reduced="140 of 314 questions, 3 of 5 labellers, 8 of 12 PPO steps",
        judge="rubric general-en",
    ),
    "quickstart-zh": Run(
        command=("-m", "chatwright", "quickstart", "--language", "zh", "--model", "qwen2.5-coder-0.5b-instruct",
                 *ZH_FLAGS.split(), "--out", "{work}/zh"),
        report="{work}/zh/report.json", minutes=14,
        reduced="140 of 260 rankings, 5 PPO steps, 30 of 60 questions", judge="rubric museum-zh",
    ),
}  # fmt: skip


def filled(text: str, work: Path) -> str:
    """`text` with the folders in place."""
    return text.replace("{work}", str(work)).replace("{results}", str(work / "results"))


def run(name: str, work: Path, *, resume: bool) -> tuple[dict[str, Any] | None, str, float]:
    """(report, why there is none, minutes) of one run."""
    one, began = RUNS[name], time.monotonic()
    report = Path(filled(one.report, work))
    if not (resume and report.is_file()):
        report.unlink(missing_ok=True)
        command = [sys.executable, *(filled(word, work) for word in one.command)]
        print(f"== {name}: about {one.minutes} min: {' '.join(command[1:])}", flush=True)
        error = _ended(command, 3 * 60 * one.minutes)
        # quickstart.py ends with 1 when a target of its own is missed: the report counts.
        if not report.is_file():
            return None, error or "it wrote no report", (time.monotonic() - began) / 60
    return json.loads(report.read_text(encoding="utf-8")), "", (time.monotonic() - began) / 60


def _ended(command: list[str], seconds: float) -> str:
    """Why the command failed, or "". It and all it started end with it."""
    process = subprocess.Popen(command, cwd=TOP, start_new_session=True)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"it took more than {seconds / 60:.0f} min"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"exit status {code}" if code else ""


def judged(claim: Claim, report: dict[str, Any] | None, why: str) -> dict[str, Any]:
    """A row of the table."""
    row = {"claim": " ".join(claim.text.format(**context()).split()), "pages": list(claim.pages), "run": claim.run}
    if report is not None:
        try:
            measured, holds = claim.rule(report)
            return row | {"measured": measured, "holds": holds, "judge": RUNS[claim.run].judge}
        except (KeyError, IndexError, TypeError) as error:
            why = f"the report lacks {error}"
    return row | {"measured": None, "holds": False, "why": why}


def table(rows: list[dict[str, Any]]) -> str:
    """Claim, README figure, measured now, holds or not."""
    lines = []
    for row in rows:
        word = "holds" if row["holds"] else "DOES NOT HOLD" if row["measured"] else "NOT MEASURED"
        lines.append(f"{word:<14} {row['run']:<15} README: {row['claim']}\n{'':<30} now: {row['measured'] or row['why']}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="runs")
    parser.add_argument("--resume", action="store_true", help="keep reports of runs that have ended")
    parser.add_argument("--list", action="store_true", help="print commands and claims, run nothing")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-quick"))
    args = parser.parse_args(argv)
    args.work = args.work.resolve()
    chosen = [name for name in RUNS if name in args.only]
    if args.list:
        for name in chosen:
            print(f"{name}: about {RUNS[name].minutes} min; less than in the README: {RUNS[name].reduced}")
            print(f"    python {' '.join(RUNS[name].command)}")
        print(table([judged(claim, None, "not run (--list)") for claim in CLAIMS if claim.run in chosen]))
        return 0
    (args.work / "results").mkdir(parents=True, exist_ok=True)
    reports = {name: run(name, args.work, resume=args.resume) for name in chosen}
    rows = [judged(claim, *reports.get(claim.run, (None, "not run (--only)"))[:2]) for claim in CLAIMS]
    result = {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "commit": commit(), "machine": machine(),
        "holds": all(row["holds"] for row in rows), "minutes": round(sum(found[2] for found in reports.values()), 1),
        "runs": {name: {"minutes": round(found[2], 1), "reduced": RUNS[name].reduced, "judge": RUNS[name].judge,
                        "computed with": (found[0] or {}).get("machine", ""), "failed": found[1]}
                 for name, found in reports.items()},
        "claims": rows,
    }  # fmt: skip
    path = KEPT if chosen == list(RUNS) else args.work / "quick.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    holding = sum(row["holds"] for row in rows)
    print(table(rows), f"{holding} of {len(rows)} claims hold, {result['minutes']} min: {path}", sep="\n")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
