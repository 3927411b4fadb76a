"""The line that says what a run was computed on."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from chatwright.engine.machine import contention_words, machine_line, matmul_gflops


def test_the_line_names_threads_format_and_a_measured_speed() -> None:
    found = re.fullmatch(r"(\d+) threads, float32, matrix products at (\d+) GFLOP/s", machine_line(torch.float32, CPU))
    assert found is not None and int(found[1]) == torch.get_num_threads() and int(found[2]) >= 1


def test_speed_is_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=0.5)
    monkeypatch.setattr("chatwright.engine.machine.time.perf_counter", lambda: next(ticks))
    assert matmul_gflops(torch.float32, CPU) == pytest.approx(2 * 1024**3 / 0.5 / 1e9)


CPU = torch.device("cpu")


def test_a_run_beside_other_work_says_so_and_one_that_waits_for_itself_does_not() -> None:
    crowded = contention_words(cpu_s=20, wall_s=40, threads=2, load=4.0, processors=2)
    assert "load 4.0 on 2 processors" in crowded and "25%" in crowded and "OMP_NUM_THREADS" in crowded
    assert not contention_words(cpu_s=78, wall_s=40, threads=2, load=4.0, processors=2)
    assert not contention_words(cpu_s=20, wall_s=40, threads=2, load=0.9, processors=2), "it reads from a slow disk"
