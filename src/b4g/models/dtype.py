"""The number format a model is run in, told without importing torch."""

import os
import platform
from pathlib import Path

from b4g.errors import ModelError, unknown

KNOWN = ("auto", "bfloat16", "float32")


def dtype_name(asked: str) -> str:
    """Return ``bfloat16`` or ``float32``; ``auto`` is bf16 where the hardware multiplies in it."""
    if asked not in KNOWN:
        raise ModelError(unknown("dtype", asked, KNOWN))
    if asked != "auto":
        return asked
    return "bfloat16" if has_gpu() or _cpu_has_bf16() else "float32"


def has_gpu() -> bool:
    """Return whether an NVIDIA GPU is there and not hidden."""
    return Path("/proc/driver/nvidia/version").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in (
        "",
        "-1",
    )


def _cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bf16 natively (AVX-512 BF16, AMX or Arm BF16)."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.machine() == "arm64"
    flags = info.read_text("utf-8")
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
