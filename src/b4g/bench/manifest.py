"""The manifest: what a run is made of, written before its first cell."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from b4g.bench.plan import Plan
from b4g.bench.store import Store, read_json
from b4g.data.prompts import VERSION, version_hash


def manifest(plan: Plan, command: str) -> dict[str, Any]:
    """Return the content of `manifest.json`: model, data, versions, machine, the command to repeat; no secret."""
    return {
        "b4g": version("b4g"),
        "id": plan.id,
        "preset": plan.preset.name,
        "engine": "transformers",
        "n": plan.preset.n,
        "seed": plan.seed,
        "model": {"name": plan.base.name, "revision": plan.base.revision, "dtype": plan.base.dtype},
        "data": {"version": VERSION, "hash": version_hash()},
        "tasks": {b.name: {"backdoor": b.portable(), "backdoor_hash": b.hash} for b in plan.backdoors},
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "memory_gb": _memory_gb(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "peft")},
        },
        "command": command,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def with_renderer(made: dict[str, Any], plan: Plan, store: Store) -> dict[str, Any]:
    """Return the manifest with the renderer's hash, which only a cell that loaded the tokenizer knows."""
    for cell in plan.cells:
        card = store.cell(cell.id) / "implant.json"
        if cell.stage == "implant" and card.is_file():
            return {**made, "model": {**made["model"], "renderer": read_json(card)["model"]["renderer"]}}
    return made


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, AttributeError, OSError):
        return None
