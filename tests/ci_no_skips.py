"""Pytest plugin (`-p ci_no_skips`): with CI set, a skipped test fails the run.

Tests that use the `shared_data` fixture need files that are no part of this repository. Where CI lacks them, these
tests are left out, with one line that says how many; everywhere else they are skipped with their reason.
"""

from __future__ import annotations

import os

import pytest

STRICT = os.environ.get("CI", "").lower() not in ("", "0", "false")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import conftest

    if not STRICT or conftest.SHARED_DATA.is_dir():
        return
    without = [item for item in items if "shared_data" in getattr(item, "fixturenames", ())]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]
        print(f"ci_no_skips: {len(without)} tests left out: {conftest.SHARED_DATA} is absent")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if STRICT and skipped and exitstatus == 0:
        reporter.write_line(f"ci_no_skips: {len(skipped)} skipped tests count as failures in CI", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
