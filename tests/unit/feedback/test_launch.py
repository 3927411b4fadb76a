"""What a job's process may take of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINE = [sys.executable, "-m", "chatwright.feedback.launch"]
AUTOGROUP = Path("/proc/self/autogroup")
CODE = f"import os, pathlib; p = pathlib.Path('{AUTOGROUP}'); print(os.nice(0), p.read_text() if p.exists() else '')"


@pytest.mark.parametrize("alone", [True, False])
def test_a_job_steps_back_with_its_whole_session_and_nobody_elses(alone: bool) -> None:
    before = AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
    line = [*LINE, "7", "0", str(os.getpid()), "--", sys.executable, "-c", CODE]
    said = subprocess.run(line, check=True, capture_output=True, text=True, start_new_session=alone).stdout.split()
    assert int(said[0]) == min(19, os.nice(0) + 7)
    if before and alone:  # Linux that groups processes by session
        assert said[-2:] == ["nice", "7"]
    assert not before or AUTOGROUP.read_text() == before


def test_a_job_whose_worker_is_gone_does_not_begin() -> None:
    line = [*LINE, "0", "0", str(os.getpid() + 10**6), "--", sys.executable, "-c", "print('began')"]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    assert found.returncode == 1 and not found.stdout
