"""Pytest plugin (`-p ci_no_skips`): with CI set, a skipped test fails the run.

Tests that use the `shared_data` fixture need files that are no part of this repository. Where CI lacks them, these
tests are left out, with one line that says how many; everywhere else they are skipped with their reason.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")
_left_out = 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import conftest

    global _left_out
    if not STRICT or conftest.SHARED_DATA.is_dir():
        return
    without = [item for item in items if "shared_data" in getattr(item, "fixturenames", ())]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]
    _left_out = len(without)
    if hasattr(config, "workeroutput"):  # a worker of xdist: the controller prints
        config.workeroutput["left_out"] = _left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    global _left_out
    _left_out = max(_left_out, getattr(node, "workeroutput", {}).get("left_out", 0))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if STRICT and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    import conftest

    if _left_out:
        terminalreporter.write_line(f"ci_no_skips: {_left_out} tests left out: {conftest.SHARED_DATA} is absent")
    skipped = len(terminalreporter.stats.get("skipped", []))
    if STRICT and skipped:
        terminalreporter.write_line(f"ci_no_skips: {skipped} skipped tests count as failures in CI", red=True)
