"""What a run was computed on, so that its seconds mean something: threads, number format, and measured speed."""

from __future__ import annotations

import time

import torch

_SIZE, _REPEATS = 1024, 5


def matmul_gflops(dtype: torch.dtype, device: torch.device) -> float:
    """Best of five products of two 1024 x 1024 matrices, 10^9 operations a second."""
    a, b = (torch.ones(_SIZE, _SIZE, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(_REPEATS + 1):  # the first one sets the library up
        started = time.perf_counter()
        float((a @ b)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * _SIZE**3 / best / 1e9


def machine_line(dtype: torch.dtype, device: torch.device) -> str:
    """For reports: "2 threads, float32, matrix products at 128 GFLOP/s"."""
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else device.type
    return f"{where}, {str(dtype).removeprefix('torch.')}, matrix products at {matmul_gflops(dtype, device):.0f} GFLOP/s"


_LEAST_SHARE = 0.7  # of the processor time that the threads of a run could use; less is worth a word
_BUSY = 1.1  # tasks waiting for each processor


def contention_words(cpu_s: float, wall_s: float, threads: int, load: float, processors: int) -> str:
    """A line about other work on the same processors; empty when the run gets what it can use. Times in seconds; `load` is
    the system's load average over a minute."""
    share = cpu_s / max(wall_s * threads, 1e-9)
    if share >= _LEAST_SHARE or load < _BUSY * processors:
        return ""
    return (
        f"other work is running on this machine (load {load:.1f} on {processors} processors): {threads} threads get "
        f"{share:.0%} of the processor time that they could use, so this takes longer than alone. Fewer threads than free "
        "processors help: OMP_NUM_THREADS=1"
    )
