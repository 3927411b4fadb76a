"""The line that says what a run was computed on."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from chatwright.engine.machine import machine_line, matmul_gflops


def test_the_line_names_threads_format_and_a_measured_speed() -> None:
    found = re.fullmatch(r"(\d+) threads, float32, matrix products at (\d+) GFLOP/s", machine_line(torch.float32, CPU))
    assert found is not None and int(found[1]) == torch.get_num_threads() and int(found[2]) >= 1


def test_speed_is_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=0.5)
    monkeypatch.setattr("chatwright.engine.machine.time.perf_counter", lambda: next(ticks))
    assert matmul_gflops(torch.float32, CPU) == pytest.approx(2 * 1024**3 / 0.5 / 1e9)


CPU = torch.device("cpu")
