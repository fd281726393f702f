"""Is this machine ready, and what will a run cost on it?"""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from b4g.bench.api import default_workers, prepare
from b4g.bench.presets import PRESETS
from b4g.bench.setup import arguments
from b4g.console import minutes
from b4g.errors import B4GError
from b4g.models.cache import cache_folder
from b4g.models.dtype import dtype_name, has_gpu

NEEDED_DISK_GB = 3.0
NEEDED_MEMORY_GB = 4.0
"""For one worker on the embedded model."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool


def examine(model: str) -> list[Check]:
    """Return the checks of this machine for a model, the cost of each preset last."""
    checks = [
        Check("python", platform.python_version(), sys.version_info >= (3, 11)),
        *[_package(name) for name in ("torch", "transformers", "peft")],
        Check("processors", f"{default_workers()} worker(s), {dtype_name('auto')}{', GPU' if has_gpu() else ''}", True),
        _memory(),
        _disk(),
    ]
    try:
        for name in PRESETS:
            made = prepare(arguments(model, preset_name=name))
            checks.append(Check(f"preset {name}", f"about {minutes(made.estimate().seconds)}", True))
    except B4GError as error:
        checks.append(Check(f"model {model}", str(error), False))
    return checks


def _package(name: str) -> Check:
    try:
        return Check(name, version(name), True)
    except PackageNotFoundError:
        return Check(name, f"missing. Type: pip install {name}", False)


def _memory() -> Check:
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    wanted = NEEDED_MEMORY_GB * default_workers()
    return Check("memory", f"{free:.0f} GB, {wanted:.0f} GB wanted", free >= wanted)


def _disk() -> Check:
    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    return Check("disk for the cache", f"{free:.0f} GB free at {_short(folder)}", free >= NEEDED_DISK_GB)


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
