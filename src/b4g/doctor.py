"""Is this machine ready, and what will a run cost on it?"""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from b4g.bench.api import Prepared, default_workers, prepare
from b4g.bench.estimate import Estimate, estimate
from b4g.bench.presets import PRESETS
from b4g.bench.setup import arguments
from b4g.console import minutes
from b4g.errors import B4GError, ModelError
from b4g.models.architecture import Architecture, read_architecture
from b4g.models.cache import cache_folder
from b4g.models.catalogue import entry_of
from b4g.models.dtype import dtype_name, has_gpu
from b4g.models.source import Source, resolve
from b4g.weighing import weigh

NEEDED_DISK_GB = 3.0
NEEDED_MEMORY_GB = 4.0
"""For one worker on the embedded model."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool


def examine(model: str, gpus: int = 1) -> list[Check]:
    """Return the checks of this machine for a model, the cost of each preset and the model's memory last.

    ``gpus`` is how many cards share the model, for the sizes per card.
    """
    checks = [
        Check("python", platform.python_version(), sys.version_info >= (3, 11)),
        *[_package(name) for name in ("torch", "transformers", "peft")],
        Check("processors", f"{default_workers()} worker(s), {dtype_name('auto')}{', GPU' if has_gpu() else ''}", True),
        _memory(),
        _disk(),
    ]
    try:
        source = resolve(model)
        arch = _architecture(source)
        made = {name: prepare(arguments(model, preset_name=name)) for name in PRESETS}
    except B4GError as error:
        return [*checks, Check(f"model {model}", str(error), False)]
    costs = {name: _cost(one, arch) for name, one in made.items()}
    checks += [Check(f"preset {name}", f"about {minutes(cost.seconds)}", True) for name, cost in costs.items()]
    if not isinstance(arch, Architecture):
        return [*checks, Check("size", arch, True)]
    return [*checks, *_access(source), *[Check(*line) for line in weigh(arch, gpus, costs)]]


def _architecture(source: Source) -> Architecture | str:
    """Return the model's architecture without a download, or why it can't be told."""
    if not source.is_local:
        entry = entry_of(source.place)
        return entry.architecture if entry else f"not known before {source.place} is here; give a folder that holds it"
    try:
        return read_architecture(Path(source.place))
    except ModelError as error:
        return str(error)


def _cost(made: Prepared, arch: Architecture | str) -> Estimate:
    if isinstance(arch, str):
        return made.estimate()
    return estimate(made.plan, made.missing, made.workers, arch.parameters)


def _access(source: Source) -> list[Check]:
    """Return whether a gated model of the catalogue can be fetched; a model that is here needs no access."""
    entry = None if source.is_local else entry_of(source.place)
    if entry is None or not entry.gated:
        return []
    from b4g.models.source import has_token

    found = "an access token is here" if has_token() else "no access token here"
    return [Check("access", f"gated, {found}: {entry.access}", has_token())]


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
