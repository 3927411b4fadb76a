"""The line that says what a run was computed on."""

from __future__ import annotations

import re

import torch

from chatwright.engine.machine import machine_line, matmul_gflops


def test_the_line_names_threads_format_and_a_measured_speed() -> None:
    found = re.fullmatch(r"(\d+) threads, float32, matrix products at (\d+) GFLOP/s", machine_line(torch.float32, CPU))
    assert found is not None and int(found[1]) == torch.get_num_threads() and int(found[2]) >= 1


def test_speed_is_operations_over_seconds() -> None:
    assert 0.1 < matmul_gflops(torch.float32, CPU) < 1e6


CPU = torch.device("cpu")
