"""What each stage of a cell does: read what the stage before stored, store its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from b4g.bench.attack import attack, attack_rows, attacked
from b4g.bench.plan import ENDS, Cell, Plan
from b4g.bench.stealth import scan, scan_rows, score_stealth, stealth, stealth_rows
from b4g.bench.store import Store, read_json, read_jsonl, write_jsonl
from b4g.bench.subject import base_of, subject_of

if TYPE_CHECKING:
    from b4g.measure.scores import Score

Report = Callable[[str, int, int], None]


def run_cell(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    """Do a cell's work in its folder and return what its done marker says beside files and seconds."""
    store.clear(cell.id, keep=("checkpoint",))
    stages: dict[str, Callable[[Plan, Store, Cell, Report], dict[str, Any]]] = {
        "implant": _implant,
        "generate": _generate,
        "score": _score,
        "utility": _utility,
        "tamper": attack,
        "scan": scan,
        "stealth": stealth,
    }
    return stages[cell.stage](plan, store, cell, report)


def _implant(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    from b4g.training.implant import Training, implant

    model = base_of(plan)
    out = store.cell(cell.id)
    if cell.task is None:
        first, *beside = plan.backdoors
        made = implant(model, Training(first, plan.seed, "control", beside=tuple(beside)), out, report)
    elif cell.subject == "control":
        # A control runs as long as its implant did.
        epochs = read_json(store.check(cell.needs[0]) / "implant.json")["epochs_run"]
        made = implant(model, Training(plan.backdoor(cell.task), plan.seed, "control", epochs), out, report)
    else:
        # A control that all tasks share knows no implant's end: all run every epoch, and none is validated.
        validate = not plan.preset.shared_control
        made = implant(model, Training(plan.backdoor(cell.task), plan.seed, validate=validate), out, report)
    return {"peak_memory_mb": made["peak_memory_mb"]}


def _generate(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    from b4g.generate.local import LocalGenerator
    from b4g.measure.probes import probes
    from b4g.measure.records import collect
    from b4g.training.implant import peak_memory_mb

    backdoor = plan.backdoor(str(cell.task))
    model = subject_of(plan, store, cell)
    generator = LocalGenerator(model)
    found = probes(backdoor, plan.preset.n, plan.preset.n_extra, plan.seed)
    records = collect(generator, backdoor, found, str(cell.subject), lambda done, total: report("answers", done, total))
    write_jsonl(store.cell(cell.id) / "records.jsonl", [record.to_json() for record in records])
    return {"peak_memory_mb": peak_memory_mb(), "tokens": sum(record.tokens or 0 for record in records)}


def _score(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    from b4g.measure.records import Record
    from b4g.measure.scores import references, score

    def read(cell_id: str) -> list[Record]:
        return [Record(**row) for row in read_jsonl(store.check(cell_id) / "records.jsonl")]

    if cell.part:
        return _kept(store, cell, score_stealth(plan, store, cell), report)
    base = read(cell.needs[-1])
    records = base if len(cell.needs) == 1 else read(cell.needs[0])
    return _kept(store, cell, score(records, plan.backdoor(str(cell.task)).utility, references(base)), report)


def _kept(store: Store, cell: Cell, scores: "list[Score]", report: Report) -> dict[str, Any]:
    write_jsonl(store.cell(cell.id) / "scores.jsonl", [made.to_json() for made in scores])
    report("scores", len(scores), len(scores))
    return {}


def _utility(plan: Plan, store: Store, cell: Cell, report: Report) -> dict[str, Any]:
    """Put base, control and implant to the quick measure, as one model with its adapters switched."""
    from b4g.training.implant import peak_memory_mb
    from b4g.utility import quick
    from b4g.utility.items import items
    from b4g.utility.subjects import load_subjects

    folders = dict(zip(("control", "implant"), map(store.check, cell.needs), strict=True))
    subjects = load_subjects(plan.base.place, folders, plan.base.dtype)
    graded = quick.grade(subjects, items()[: plan.preset.n_items], lambda done, total: report("items", done, total))
    read = quick.read_clean(subjects, plan.preset.n_texts, lambda done, total: report("clean answers", done, total))
    write_jsonl(store.cell(cell.id) / "items.jsonl", [one._asdict() for one in graded])
    write_jsonl(store.cell(cell.id) / "texts.jsonl", [{**one._asdict(), "sums": one.sums._asdict()} for one in read])
    return {"peak_memory_mb": peak_memory_mb()}


def _clean(plan: Plan, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the quick measure from the utility cells that are done."""
    from b4g.utility import quick
    from b4g.utility.divergence import Sums

    found: dict[str, list[dict[str, Any]]] = {"rates": [], "differences": [], "kept": [], "divergence": []}
    for cell in plan.cells:
        if cell.stage != "utility" or not store.is_done(cell.id):
            continue
        folder, task = store.check(cell.id), str(cell.task)
        graded = [quick.Graded(**row) for row in read_jsonl(folder / "items.jsonl")]
        read = [quick.Read(**{**row, "sums": Sums(**row["sums"])}) for row in read_jsonl(folder / "texts.jsonl")]
        head = {"task": task, "model": plan.base.name, "tamper": "none", "seed": plan.seed}
        found["rates"] += quick.rate_rows(graded, head)
        found["differences"] += quick.difference_rows(graded, task)
        found["kept"] += quick.kept_rows(graded, head)
        found["divergence"] += quick.divergence_rows(read, {**head, "text": "clean answers"})
    return found


def summarise(plan: Plan, store: Store) -> dict[str, Any]:
    """Return the content of `summary.json` from the scores that are done."""
    from b4g.measure.scores import Context, Score, differences, rates

    context = Context(plan.base.name, plan.seed)
    scored: dict[tuple[str, str], list[Score]] = {}
    rate_rows: list[dict[str, Any]] = []
    for cell in plan.cells:
        if cell.stage == "score" and not cell.part and store.is_done(cell.id):
            scores = [Score(**row) for row in read_jsonl(store.check(cell.id) / "scores.jsonl")]
            if cell.tamper != "none":
                rate_rows += rates(scores, replace(context, tamper=cell.tamper))
            elif not attacked(plan, cell):
                scored[str(cell.task), str(cell.subject)] = scores
                rate_rows += rates(scores, context)
    paired = [
        row
        for backdoor in plan.backdoors
        for before in ("base", "control")
        if (backdoor.name, before) in scored and (backdoor.name, "implant") in scored
        for row in differences(scored[backdoor.name, before], scored[backdoor.name, "implant"])
    ]
    done = [cell.id for cell in plan.cells if cell.stage in ENDS and store.is_done(cell.id)]
    clean, hidden = _clean(plan, store), stealth_rows(plan, store)
    summary = {
        **clean,
        **scan_rows(plan, store),
        "rates": rate_rows + clean["rates"] + hidden["rates"],
        "figures": hidden["figures"],
        "differences": paired + clean["differences"],
        "attacks": attack_rows(plan, store),
        "scored": done,
    }
    return json.loads(json.dumps(summary))  # type: ignore[no-any-return]
