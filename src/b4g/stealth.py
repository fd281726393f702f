"""Guess at an implant, ask for its secret, put ordinary traffic, try its trigger in other ways: ``b4g measure --only``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.api import backdoor_of, base_place, read_implant
from b4g.measure.asking import Size
from b4g.measure.scores import Context, Score
from b4g.measure.stealth import BESIDE_BASE, QUICK, ask, beside_base, rows, score_records, size_of

__all__ = ["Against", "figure_lines", "measure_stealth", "size_of"]

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Against:
    """What is asked, and how much."""

    folder: Path
    model: str | None = None
    """The base, where it is not the one named in the folder."""
    key: Path | None = None
    size: Size = QUICK
    any_renderer: bool = False


def measure_stealth(measure: str, against: Against, report: Report | None = None) -> dict[str, Any]:
    """Return the rates and figures of one measure of stealth on an implant, for `accident` beside its base."""
    from b4g.models.load import check_renderer, load_implant, load_model

    made = read_implant(against.folder)
    backdoor, name = backdoor_of(made, against.key), base_place(made, against.model)
    seed, context = int(made["seed"]), Context(name, int(made["seed"]))
    scored: dict[str, list[Score]] = {}
    for subject in ("base", made["subject"]) if measure in BESIDE_BASE else (made["subject"],):
        base = subject == "base"
        model = load_model(name) if base else load_implant(name, against.folder, checked=not against.any_renderer)
        check_renderer(made, model, against.any_renderer)
        progress = (lambda done, total, who=subject: report(f"{measure}, {who}", done, total)) if report else None
        records = ask(measure, model, backdoor, against.size, seed, progress, subject=subject)
        scored[subject] = score_records(measure, records, backdoor)
    parts = [rows(measure, scores, backdoor, context, against.size) for scores in scored.values()]
    figures = [row for part in parts for row in part["figures"]]
    if "base" in scored:
        figures += beside_base(measure, scored["base"], scored[made["subject"]], context)
    return {"rates": [row for part in parts for row in part["rates"]], "figures": figures}


def figure_lines(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Return the figures as lines for a person."""
    lines = []
    for row in figures:
        if row["value"] is None:
            said = f"not measured {row.get('note', '')}"
        else:
            low, high = (f"{row[end]:.4g}" if row.get(end) is not None else "?" for end in ("low", "high"))
            said = f"{row['value']:.4g} {row['unit']} [{low}, {high}]" + (f" n={row['n']}" if row.get("n") else "")
        lines.append(f"{row['task']}  {row['subject']}  {row['measure']}  {row['name']}: {said}".rstrip())
    return lines
