"""The report of `make check-slow`: what it counts, when it is green, and what a resumed run leaves out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import client_environments
import slow_suite

TESTS = """
import pytest
def test_good(): pass
def test_bad(): assert not {bad}
@pytest.mark.skip
def test_left_out(): pass
@pytest.fixture
def breaks():
    yield
    raise RuntimeError
def test_torn_down(breaks): pass
"""


def run(folder: Path, *, bad: bool) -> dict[str, str]:
    """Outcomes of one run of the plugin in `folder` that leaves out what has passed before."""
    (folder / "test_these.py").write_text(TESTS.format(bad=bad), encoding="utf-8")
    lines = folder / "lines.jsonl"
    done = [row for row in slow_suite.read_lines(lines) if row["outcome"] == "passed"]
    lines.unlink(missing_ok=True)
    environment = {
        "PYTHONPATH": str(Path(slow_suite.__file__).parent), "SLOW_SUITE_LINES": str(lines),
        "SLOW_SUITE_DONE": json.dumps(done), "SLOW_SUITE_SECONDS": "{}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they take seconds to import
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        "-p",
        "slow_suite",
        str(folder),
    ]
    subprocess.run(command, env={**os.environ, **environment}, cwd=folder, capture_output=True, timeout=110)
    return {row["test"].partition("::")[2]: row["outcome"] for row in slow_suite.read_lines(lines)}


def test_finished_tests_are_kept_and_a_resumed_run_leaves_out_what_has_passed(tmp_path: Path) -> None:
    first = run(tmp_path, bad=True)
    assert first == {"test_good": "passed", "test_bad": "failed", "test_left_out": "skipped", "test_torn_down": "failed"}
    assert run(tmp_path, bad=False) == {"test_bad": "passed", "test_left_out": "skipped", "test_torn_down": "failed"}


def row(name: str, outcome: str = "passed", seconds: float = 60.0) -> dict[str, Any]:
    return {"test": name, "outcome": outcome, "seconds": seconds, "commit": "abc"}


@pytest.mark.parametrize(
    ("outcomes", "statuses", "green"),
    [
        (("passed", "passed"), (0, 0), True),
        (("passed", "passed"), (0, 5), True),  # nothing was left to run
        (("passed", "skipped"), (0, 0), False),
        (("passed", "failed"), (1, 0), False),
        (("passed", "passed"), (3, 0), False),  # a worker crashed
        (("passed", "passed"), (0,), False),  # stopped before the second pass
        ((), (5, 5), False),
    ],
)
def test_green_only_if_all_have_run_and_passed(outcomes: tuple[str, ...], statuses: tuple[int, ...], green: bool) -> None:
    rows = [row(f"a.py::test_{n}", outcome) for n, outcome in enumerate(outcomes)]
    passes = dict(zip(slow_suite.PASSES, statuses, strict=False))
    report = slow_suite.summary(rows, dict.fromkeys(passes, 1.5), passes, clients=True)
    assert report["green"] is green and report["passed"] == outcomes.count("passed")
    assert report["not passed"] == {row["test"]: row["outcome"] for row in rows if row["outcome"] != "passed"}


def test_files_are_ordered_by_what_they_took() -> None:
    names = ["a.py::1", "a.py::2", "b.py::1", "new.py::1", "c.py::1", "web.py::1"]
    expected = ["web.py::1", "new.py::1", "b.py::1", "a.py::1", "a.py::2", "c.py::1"]
    assert slow_suite.order(names, {"a.py": 2.0, "b.py": 3.0, "c.py": 1.0}) == expected


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(f'{json.dumps(row("a::b", "failed"))}\n{json.dumps(row("a::b"))}\n{{"test": "c', encoding="utf-8")
    assert slow_suite.read_lines(lines) == [row("a::b")]


def test_an_environment_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installer = tmp_path / "installer"
    installer.write_text("#!/bin/sh\necho no such host >&2\nexit 1\n", encoding="utf-8")
    installer.chmod(0o755)
    monkeypatch.setattr(client_environments.sys, "executable", str(installer))
    monkeypatch.setitem(client_environments.PYTHON, "absent", ("absent==1.0",))
    (reason,) = client_environments.prepare(["absent"]).values()
    assert "environment absent (absent==1.0) cannot be made" in reason and "needs a package registry: no such host" in reason
    assert not list(tmp_path.rglob("complete"))


def test_every_environment_of_the_slow_tests_is_prepared() -> None:
    """Those that tests of CI use are made by them; `trl` is a benchmark's."""
    assert {*slow_suite.CLIENTS, "openai", "llm", "trl"} == client_environments.PYTHON.keys()
