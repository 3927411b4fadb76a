"""Which device and which number format to compute in, decided by the hardware unless the user says otherwise."""

from __future__ import annotations

from typing import Literal

import torch

from chatwright.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]


def pick_device(name: str | torch.device) -> torch.device:
    """`auto`: CUDA, then MPS, then CPU. A device that is not there is an error that says so."""
    if isinstance(name, torch.device):
        return name
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if not available.get(name.partition(":")[0]):
        have = ", ".join(d for d, ok in available.items() if ok)
        raise ConfigError(f"--device {name}: this machine has no such device; available: {have}")
    return torch.device(name)


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """`auto`: bf16 where the hardware multiplies it natively, fp32 elsewhere. Masters and moments are always fp32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = _cpu_multiplies_bf16()
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def _cpu_multiplies_bf16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return any(flag in flags.split() for flag in ("avx512_bf16", "amx_bf16", "bf16"))
