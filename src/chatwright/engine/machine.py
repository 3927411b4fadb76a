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
