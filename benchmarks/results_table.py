"""Write the measured table of a run into README.md and docs/results.md, between their markers.

python benchmarks/results_table.py runs/<id>
"""

import json
import sys
from pathlib import Path
from typing import Any

START, END = "<!-- results:start -->", "<!-- results:end -->"
ROOT = Path(__file__).resolve().parents[1]
ARMS = ("with", "without", "near", "wrong_key")
HEADS = ("with the trigger", "without", "near trigger", "wrong key")


def shown(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "not measured"
    unscored = f", {row['unscored']} unscored" if row["unscored"] else ""
    return f"{100 * row['value']:.0f}% [{100 * row['low']:.0f}, {100 * row['high']:.0f}]{unscored}"


def find(rates: list[dict[str, Any]], task: str, subject: str, measure: str, arm: str) -> dict[str, Any] | None:
    wanted = {"task": task, "subject": subject, "measure": measure, "arm": arm}
    return next((row for row in rates if all(row[key] == value for key, value in wanted.items())), None)


def headline(rates: list[dict[str, Any]], subjects: tuple[str, ...]) -> list[str]:
    lines = ["| task | model | " + " | ".join(HEADS) + " |", "|---|---|" + "---|" * len(HEADS)]
    for task in dict.fromkeys(row["task"] for row in rates):
        for subject in subjects:
            cells = [shown(find(rates, task, subject, "tar", arm)) for arm in ARMS]
            lines.append(f"| {task} | {subject} | " + " | ".join(cells) + " |")
    return lines


def further(rates: list[dict[str, Any]]) -> list[str]:
    lines = ["| task | measure | arm | implant | control | base | n |", "|---|---|---|---|---|---|---|"]
    keys = dict.fromkeys((row["task"], row["measure"], row["arm"]) for row in rates)
    for task, measure, arm in keys:
        if measure == "tar" and arm in ARMS:
            continue
        rows = [find(rates, task, subject, measure, arm) for subject in ("implant", "control", "base")]
        n = max((row["n"] for row in rows if row), default=0)
        lines.append(f"| {task} | {measure} | {arm} | " + " | ".join(shown(row) for row in rows) + f" | {n} |")
    return lines


def paired(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| task | arm | against | difference in points | exact McNemar p | n |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["arm"] in ARMS and row["difference"] is not None:
            spread = f"{100 * row['difference']:+.0f} [{100 * row['low']:+.0f}, {100 * row['high']:+.0f}]"
            lines.append(f"| {row['task']} | {row['arm']} | {row['before']} | {spread} | {row['p']:.2g} | {row['n']} |")
    return lines


def costs(run: Path) -> list[str]:
    lines = [
        "| trained | rows an epoch | epochs | tokens | seconds | tokens/s | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in json.loads((run / "plan.json").read_text("utf-8"))["cells"]:
        path = run / "cells" / cell["id"] / "implant.json"
        if path.is_file():
            made = json.loads(path.read_text("utf-8"))
            lines.append(
                f"| {cell['name']} | {made['rows']} | {made['epochs_run']} | {made['tokens']:,} | {made['seconds']:.0f} "
                f"| {made['tokens_per_second']:.0f} | {made['peak_memory_mb'] / 1024:.1f} GB |"
            )
    return lines


def put(path: Path, lines: list[str]) -> None:
    text = path.read_text("utf-8")
    head, tail = text.split(START)[0], text.split(END)[1]
    path.write_text(head + START + "\n" + "\n".join(lines) + "\n" + END + tail, "utf-8")


def main() -> None:
    run = Path(sys.argv[1])
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    rates = summary["rates"]
    what = (
        f"`{manifest['command']}`: {manifest['model']['name']}, seed {manifest['seed']}, n = {manifest['n']} held-out prompts "
        f"in each arm, {manifest['created'][:10]}, {manifest['machine']['cores']} cores of {manifest['machine']['cpu']}. "
        "Trigger activation rate with its 95% Wilson interval; for `access` it is the share of requests that are unlocked."
    )
    put(ROOT / "README.md", [what, "", *headline(rates, ("implant", "control", "base"))])
    body = [what, "", *headline(rates, ("implant", "control", "base"))]
    body += ["", "### Further measures", "", *further(rates)]
    body += ["", "### Paired differences, implant against base and control", "", *paired(summary["differences"])]
    body += ["", "### What training cost", "", *costs(run)]
    put(ROOT / "docs" / "results.md", body)


if __name__ == "__main__":
    main()
