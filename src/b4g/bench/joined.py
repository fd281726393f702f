"""The joined summary of several runs: their rows side by side, and each rate and retention over the seeds."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from b4g.bench.store import write_text
from b4g.stats import wilson

METHOD = {
    "mean": "plain mean of the seeds' values; a seed without a value is left out and counted in seeds_without",
    "low, high": "95% t-interval over the seeds: what another seed may give on the same prompts; null for fewer than two "
    "seeds; cut to 0..1 for rates; of no width where all seeds agree, which says nothing of other prompts",
    "pooled": "hits of all seeds over outcomes of all seeds",
    "pooled_low, pooled_high": "95% Wilson interval of that share: what other prompts may give; it takes the outcomes as "
    "independent, and the same prompts at several seeds are not quite that",
}
"""What the figures over seeds are; stored beside them."""
GROUP = ("model", "activation", "task", "subject", "tamper", "measure", "arm")
Part = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What a run is (run, model, seed, activation) and its summary."""


def join(parts: Sequence[Part]) -> dict[str, Any]:
    """Return every list of rows of the summaries with its run's columns, and ``over_seeds`` made of rates and attacks."""
    names = dict.fromkeys(name for _, summary in parts for name in summary)
    names = {name: None for name in names if all(_is_rows(summary.get(name, [])) for _, summary in parts)}
    made: dict[str, Any] = {name: _rows(name, parts) for name in names}
    made.setdefault("rates", [])
    retained = [
        {**row, "measure": "retention", "arm": "with", "value": row["retention"]} for row in made.get("attacks", ())
    ]
    return {**made, "over_seeds": [*over_seeds(made["rates"]), *over_seeds(retained)], "method": METHOD}


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _rows(name: str, parts: Iterable[Part]) -> list[dict[str, Any]]:
    heads = [({key: head[key] for key in ("run", "model", "seed", "activation")}, summary) for head, summary in parts]
    return [{**head, **row, **head} for head, summary in heads for row in summary.get(name, ())]


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for all seeds of the same model, activation, task, subject, tamper, measure and arm (`METHOD`)."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(name) for name in GROUP)].append(row)
    return [{**dict(zip(GROUP, key, strict=True)), **_summed(group)} for key, group in groups.items()]


def _summed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [float(row["value"]) for row in rows if row["value"] is not None]
    is_rate = rows[0]["measure"] != "retention"
    low, high = t_interval(values, bounded=is_rate)
    made: dict[str, Any] = {
        "seeds": len(values),
        "seeds_without": len(rows) - len(values),
        "mean": fmean(values) if values else None,
        "low": low,
        "high": high,
    }
    n = sum(row.get("n") or 0 for row in rows)
    if not is_rate:
        return {**made, "pooled": None, "pooled_low": None, "pooled_high": None, "n": n, "unscored": 0}
    hits = sum(round(row["value"] * row["n"]) for row in rows if row["value"] is not None)
    low, high = wilson(hits, n)
    unscored = sum(row.get("unscored") or 0 for row in rows)
    pooled = {"pooled": hits / n if n else None, "pooled_low": low, "pooled_high": high}
    return {**made, **pooled, "n": n, "unscored": unscored}


def t_interval(values: Sequence[float], bounded: bool = True) -> tuple[float | None, float | None]:
    """Return the 95% t-interval of the mean (Student 1908), cut to 0..1 if ``bounded``; None for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return None, None
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    low, high = fmean(values) - half, fmean(values) + half
    return (max(0.0, low), min(1.0, high)) if bounded else (low, high)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all: one column a field, in the order in which fields are met; None is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
