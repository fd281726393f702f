"""The card of each implant of a run, from its summary and what the implanting cost."""

from collections.abc import Mapping
from typing import Any

from b4g.bench.plan import Cell, Plan
from b4g.bench.store import Store, read_json
from b4g.card import make_card


def cards(plan: Plan, store: Store, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one card a task: what its owner claims, what was measured, and whether that holds."""
    implants = {cell.task: cell for cell in plan.cells if (cell.stage, cell.subject) == ("implant", "implant")}
    return [make_card(f.name, f, summary, _made(store, implants[f.name])).to_json() for f in plan.backdoors]


def _made(store: Store, cell: Cell) -> dict[str, Any] | None:
    """Return what ``implant.json`` says and the size of the weights file, or None where the cell is not done."""
    if not store.is_done(cell.id):
        return None
    folder = store.check(cell.id)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {**read_json(folder / "implant.json"), "adapter_mb": round(size / 1e6, 1)}
