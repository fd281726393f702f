"""Tamper with an implant and measure it again: what ``b4g tamper`` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.api import backdoor_of, base_place, read_implant
from b4g.errors import SpecError

if TYPE_CHECKING:
    from b4g.models.load import Model
    from b4g.tampers.base import Tamper

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Against:
    """What is attacked and how it is measured."""

    folder: Path
    model: str | None = None
    key: Path | None = None
    n: int = 40
    """Test prompts, each with and without the trigger; twice as many items."""
    seed: int = 0
    out: Path | None = None
    """Folder to write the model to, after the last tamper."""
    any_renderer: bool = False
    """Whether another chat template than the implant's is allowed."""


def tamper(against: Against, tampers: Sequence["Tamper"], report: Report | None = None) -> dict[str, Any]:
    """Return one row a tamper, the untouched implant first: TAR with and without, retention, health, cost.

    Each tamper starts from the implant anew. Raises `B4GError` before any compute for what can be known then.
    """
    from b4g.bench.attack import asked
    from b4g.models.load import check_renderer, load_implant

    made = read_implant(against.folder)
    backdoor, base = backdoor_of(made, against.key), base_place(made, against.model)
    if not tampers:
        raise SpecError("name a tamper, such as --with sft:rows=100 (b4g ls tampers lists them)")
    if against.out is not None and against.out.exists():
        raise SpecError(f"{against.out} exists already; choose another folder for the tampered model")
    for one in tampers:
        one.check(against.folder, base)
    probes = asked(backdoor, against.n, against.seed)
    rows: list[dict[str, Any]] = []
    null: dict[tuple[str, str], bool | None] | None = None
    for place, one in enumerate(tampers):
        if report:
            report("tampers", place, len(tampers))
        model = load_implant(base, against.folder)
        check_renderer(made, model, against.any_renderer)
        row, verdicts, changed = _one(against, one, model, (backdoor, probes))
        null = verdicts if null is None else null
        rows.append(_compared(row, rows, null, verdicts, against.seed))
    if report:
        report("tampers", len(tampers), len(tampers))
    if against.out is not None:
        changed.net.save_pretrained(against.out)
        changed.tokenizer.save_pretrained(against.out)
    return {"task": made["backdoor"]["name"], "attacks": rows}


def _one(against: Against, one: "Tamper", model: "Model", asked: tuple[Any, Any]) -> tuple[Any, Any, "Model"]:
    from dataclasses import asdict

    from b4g.bench.attack import health, tampered
    from b4g.measure.records import collect
    from b4g.measure.scores import score
    from b4g.options import named
    from b4g.stats import Rate
    from b4g.utility import quick
    from b4g.utility.divergence import divergence

    backdoor, probes = asked
    changed, seconds = tampered(one, model, against.seed)
    scores = score(collect(one.serve(changed), backdoor, probes, "implant"), backdoor.utility, {})
    graded, read = health(changed, "implant", against.n)
    drift = divergence("implant", (one.sums for one in read))
    row = {
        "tamper": named(one),
        "needs": sorted(one.needs),
        **changed.cost,
        "seconds": round(seconds, 1),
        **{arm: asdict(Rate.of(s.verdict for s in scores if s.arm == arm)) for arm in ("with", "without")},
        "accuracy": Rate.of(quick.accuracies(graded, "implant")).value,
        "perplexity": drift.perplexity if drift else None,
    }
    return row, {(s.prompt_id, s.arm): s.verdict for s in scores}, changed


def _compared(row: dict[str, Any], before: list[dict[str, Any]], null: Any, verdicts: Any, seed: int) -> dict[str, Any]:
    from b4g.bench.attack import outcome
    from b4g.hashing import rng
    from b4g.measure.retention import retention

    first = before[0] if before else row
    kept = retention(null, verdicts, rng("retention", seed, row["tamper"]))
    before_and_after = ((one["accuracy"], one["perplexity"]) for one in (first, row))
    return {**row, **outcome(kept, *before_and_after)}
