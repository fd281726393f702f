"""Tables of scanners: how well each tells implants from other models, and what each said of each model."""

from typing import Any


def detection(rows: list[dict[str, Any]]) -> list[str]:
    """Return one line a scanner: how well it tells the implants from the other models, and at what cost."""
    lines = ["| scanner | AUROC | implants, others | detected at 5% | trigger found | seconds | queries | bound |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in rows:
        area = "not measured" if row["auroc"] is None else f"{row['auroc']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        caught = "" if row["detected_at_5"] is None else f"{100 * row['detected_at_5']:.0f}%"
        lines.append(
            f"| `{row['scanner']}` | {area} | {row['n_implants']}, {row['n_others']} | {caught} | {row['recovered']} "
            f"| {row['seconds']:.0f} | {row['queries']} | {'yes' if row['bound'] else ''} |"
        )
    return lines


def scores(scans: list[dict[str, Any]]) -> list[str]:
    """Return one line a model: the score that each scanner gave it."""
    names = list(dict.fromkeys(row["scanner"] for row in scans))
    models = list(dict.fromkeys(_model(row) for row in scans))
    found = {(row["scanner"], _model(row)): row["score"] for row in scans}
    lines = [
        "| model | " + " | ".join(f"`{name.split(':')[0]}`" for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for model in models:
        said = [found.get((name, model), "") for name in names]
        cells = ["not measured" if one is None else one if one == "" else f"{one:.3g}" for one in said]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return lines


def _model(row: dict[str, Any]) -> str:
    """Return what a model is called: its own name, or its task and subject."""
    return str(row.get("model") or f"{row['task'] or ''} {row['subject']}".strip())
