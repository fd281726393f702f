"""What each stage of a cell does: read what the stage before stored, store its own."""

import json
from collections.abc import Callable
from typing import Any

from b4g.bench.plan import Cell, Plan
from b4g.bench.store import Store, read_json, read_jsonl, write_jsonl

Report = Callable[[str, int, int], None]


def run_cell(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    """Do a cell's work in its folder and return what its done marker says beside files and seconds."""
    store.clear(cell.id, keep=("checkpoint",))
    stages: dict[str, Callable[[Plan, Store, Cell, Report], dict[str, Any]]] = {
        "implant": _implant,
        "generate": _generate,
        "score": _score,
    }
    return stages[cell.stage](plan, store, cell, report)


def _implant(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    from b4g.models.load import load_model
    from b4g.training.implant import Training, implant

    model = load_model(plan.base.place, dtype=plan.base.dtype)
    out = store.cell(cell.id)
    if cell.task is None:
        first, *beside = plan.backdoors
        made = implant(model, Training(first, plan.seed, "control", beside=tuple(beside)), out, report)
    elif cell.subject == "control":
        # A control runs as long as its implant did.
        epochs = read_json(store.check(cell.needs[0]) / "implant.json")["epochs_run"]
        made = implant(model, Training(plan.backdoor(cell.task), plan.seed, "control", epochs), out, report)
    else:
        made = implant(model, Training(plan.backdoor(cell.task), plan.seed), out, report)
    return {"peak_memory_mb": made["peak_memory_mb"]}


def _generate(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    from b4g.generate.local import LocalGenerator
    from b4g.measure.probes import probes
    from b4g.measure.records import collect
    from b4g.models.load import check_renderer, load_implant, load_model
    from b4g.training.implant import peak_memory_mb

    backdoor = plan.backdoor(str(cell.task))
    if cell.needs:
        folder = store.check(cell.needs[0])
        model = load_implant(plan.base.place, folder, plan.base.dtype)
        check_renderer(read_json(folder / "implant.json"), model)
    else:
        model = load_model(plan.base.place, dtype=plan.base.dtype)
    generator = LocalGenerator(model)
    found = probes(backdoor, plan.preset.n, plan.preset.n_extra, plan.seed)
    records = collect(generator, backdoor, found, str(cell.subject), lambda done, total: report("answers", done, total))
    write_jsonl(store.cell(cell.id) / "records.jsonl", [record.to_json() for record in records])
    return {"peak_memory_mb": peak_memory_mb(), "tokens": sum(record.tokens for record in records)}


def _score(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    from b4g.measure.records import Record
    from b4g.measure.scores import references, score

    def read(cell_id: str) -> list[Record]:
        return [Record(**row) for row in read_jsonl(store.check(cell_id) / "records.jsonl")]

    base = read(cell.needs[-1])
    records = base if len(cell.needs) == 1 else read(cell.needs[0])
    scores = score(records, plan.backdoor(str(cell.task)).utility, references(base))
    write_jsonl(store.cell(cell.id) / "scores.jsonl", [made.to_json() for made in scores])
    report("scores", len(scores), len(scores))
    return {}


def summarise(plan: Plan, store: Store) -> dict[str, Any]:
    """Return the content of `summary.json` from the scores that are done."""
    from b4g.measure.scores import Context, Score, differences, rates

    context = Context(plan.base.name, plan.seed)
    scored: dict[tuple[str, str], list[Score]] = {}
    for cell in plan.cells:
        if cell.stage == "score" and store.is_done(cell.id):
            rows = read_jsonl(store.check(cell.id) / "scores.jsonl")
            scored[str(cell.task), str(cell.subject)] = [Score(**row) for row in rows]
    rate_rows = [row for scores in scored.values() for row in rates(scores, context)]
    paired = [
        row
        for backdoor in plan.backdoors
        for before in ("base", "control")
        if (backdoor.name, before) in scored and (backdoor.name, "implant") in scored
        for row in differences(scored[backdoor.name, before], scored[backdoor.name, "implant"])
    ]
    done = [cell.id for cell in plan.cells if cell.stage == "score" and (cell.task, cell.subject) in scored]
    return json.loads(json.dumps({"rates": rate_rows, "differences": paired, "scored": done}))  # type: ignore[no-any-return]
