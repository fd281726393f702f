"""The model that a cell is about."""

from typing import TYPE_CHECKING

from b4g.bench.plan import Cell, Plan
from b4g.bench.store import Store, read_json

if TYPE_CHECKING:
    from b4g.models.load import Model


def base_of(plan: Plan) -> "Model":
    """Return the untouched base of a plan."""
    from b4g.models.load import load_model

    return load_model(plan.base.place, dtype=plan.base.dtype)


def subject_of(plan: Plan, store: Store, cell: Cell) -> "Model":
    """Return the implant or control that the cell needs first, or the base where it needs none.

    One that was made under another chat template raises `ModelError`.
    """
    from b4g.models.load import check_renderer, load_implant

    if not cell.needs:
        return base_of(plan)
    folder = store.check(cell.needs[0])
    model = load_implant(plan.base.place, folder, plan.base.dtype)
    check_renderer(read_json(folder / "implant.json"), model)
    return model
