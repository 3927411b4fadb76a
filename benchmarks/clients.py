"""Other people's clients against our server: runs tests/clients and keeps what passed, with versions and seconds.

    python benchmarks/clients.py [--all] [--only EXPRESSION]
        --all: also the slow ones (several GB of environments); --only: those whose names fit, as in `pytest -k`
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

TOP = Path(__file__).resolve().parents[1]
RESULTS = TOP / "benchmarks" / "results" / "clients.json"
PIN = re.compile(r'"((?:@[a-z-]+/)?[a-z][a-z-]*(?:\[[a-z]+\])?)(?:==|@)([0-9][0-9a-z.]*)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "tests/clients", f"--junitxml={report}", "--timeout", "3600"]
        marks = ([] if args.all else ["-m", "not slow"]) + (["-k", args.only] if args.only else [])
        env = {**os.environ, "PYTHONPATH": "tests", "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *marks], cwd=TOP, env=env)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        found = {_name(case): _case(case) for case in cases}
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["clients"] if RESULTS.is_file() else {}
    pins = PIN.findall((TOP / "tests" / "client_environments.py").read_text(encoding="utf-8"))
    versions = sorted({" ".join(pin) for pin in pins})
    result = {"versions": versions, "clients": {**kept, **found}}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(case["result"] != "passed" for case in found.values()))


def _name(case: ElementTree.Element) -> str:
    """The client; of vLLM, which is a server, what was tested of it."""
    name = str(case.get("name")).removeprefix("test_")
    return f"vllm: {name}" if "test_vllm" in str(case.get("classname")) else name


def _case(case: ElementTree.Element) -> dict[str, str | float]:
    failed = case.find("failure") is not None or case.find("error") is not None
    result = "failed" if failed else "skipped" if case.find("skipped") is not None else "passed"
    return {"result": result, "seconds": round(float(case.get("time", 0)), 1), "day": time.strftime("%Y-%m-%d")}


if __name__ == "__main__":
    main()
