"""Cells done in this process, as a worker does them."""

import io
import json
from pathlib import Path
from typing import Any

from b4g.bench.plan import Plan
from b4g.bench.store import Store
from b4g.bench.worker import serve


def missing(plan: Plan, folder: Path) -> list[str]:
    """Return the names of the cells that are not done."""
    return [cell.name for cell in plan.cells if not Store(folder).is_done(cell.id)]


def served(plan: Plan, folder: Path, name: str) -> dict[str, Any]:
    """Do the cell of that name and return the last event that its worker said."""
    out = io.StringIO()
    serve(plan, Store(folder), next(cell for cell in plan.cells if cell.name == name), out)
    event: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return event


def home(plan: Plan, folder: Path, name: str) -> Path:
    """Return the folder of the cell of that name."""
    return Store(folder).cell(next(cell.id for cell in plan.cells if cell.name == name))


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but for locks, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def results(folder: Path) -> dict[str, bytes]:
    """Return the records and scores of a run: what must not depend on how often it was interrupted."""
    return {name: data for name, data in content(folder).items() if name.endswith(".jsonl")}
