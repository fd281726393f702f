"""What a model weighs here and on the usual cards: the part of `b4g doctor` that is about its size."""

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from b4g.bench.api import default_workers
from b4g.bench.estimate import ROW_TOKENS, Estimate
from b4g.console import minutes
from b4g.errors import SpecError
from b4g.models.architecture import Architecture
from b4g.models.cards import CARDS, OVERHEAD_GB, Card, Work, fitting, seconds
from b4g.models.dtype import dtype_name, has_gpu
from b4g.models.size import GB, Recipe, answering, modes, training, weight_bytes

_WORKER_GB = 2.4
"""What a worker on a CPU takes beside the model's own need: libraries, and memory kept by the allocator.

Measured on SmolLM2-135M alone: peaks of 2.6 to 3.3 GB resident over the cells of a run, where the estimate is 0.6.
"""
_SHOWN = ("quick", "standard")
"""Presets whose time is guessed for each card."""


class Line(NamedTuple):
    """One finding: what, how much, and whether that is well."""

    what: str
    found: str
    ok: bool = True


def weigh(arch: Architecture, gpus: int, costs: Mapping[str, Estimate]) -> Iterator[Line]:
    """Yield the model's size, what each use of it needs on a card, what fits where, and how long presets take there."""
    if gpus < 1:
        raise SpecError(f"--gpus must be at least 1, not {gpus}")
    yield Line("size", f"{arch.parameters / 1e9:.2f} billion parameters, {weight_bytes(arch) / GB:.1f} GB in bf16")
    shared = f", each of {gpus} GPUs" if gpus > 1 else ""
    yield Line(f"memory, 32 answers{shared}", str(answering(arch, Recipe(gpus=gpus))))
    for name, recipe in modes(gpus=gpus).items():
        yield Line(f"memory, {name}{shared}", str(training(arch, recipe)))
    for card in CARDS:
        fits = fitting(arch, card.gigabytes, gpus)
        each = f"{gpus} x {card.gigabytes}" if gpus > 1 else str(card.gigabytes)
        yield Line(f"fits on {each} GB", "; ".join(fits) or "nothing")
        if fits and gpus == 1:
            yield Line(f"time on {card.gigabytes} GB", _times(arch, card, costs, fits))
    yield _here(arch)


def _times(arch: Architecture, card: Card, costs: Mapping[str, Estimate], fits: list[str]) -> str:
    ways = modes()
    way = next((name for name in ways if name in fits), None)
    if way is None:
        return "no training fits"
    said = []
    for name in _SHOWN:
        work = Work(costs[name].rows, ROW_TOKENS, costs[name].answers)
        said.append(f"{name} about {minutes(seconds(arch, card, work, ways[way]))}")
    return f"{', '.join(said)} with {way}, by the data sheet of {card.name} (a guess within a factor of three)"


def _here(arch: Architecture) -> Line:
    """Say whether answering and LoRA training fit on this machine in the format that ``auto`` picks."""
    width = 2 if dtype_name("auto") == "bfloat16" else 4
    recipe = Recipe(width=width, attention="fused" if has_gpu() else "grouped")
    need = max(training(arch, recipe).total, answering(arch, recipe).total)
    need += (OVERHEAD_GB if has_gpu() else _WORKER_GB) * GB
    room, times = _room(), int(_room() // need)
    wanted = f"{need / GB:.1f} GB a worker, {room / GB:.1f} GB here"
    if times == 0:
        return Line("fits here", f"no: {wanted}", False)
    few = times < default_workers()
    return Line("fits here", f"yes: {wanted}{f'; add --workers {times}' if few else ''}")


def _room() -> float:
    """Return the bytes of the GPU, or of this machine's memory where there is none."""
    if has_gpu():
        import torch

        if torch.cuda.is_available():
            return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
