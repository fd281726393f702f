"""Write the measured tables of a run into README.md and docs/, each part between its own markers.

python benchmarks/results_table.py runs/<id> [--part tasks attacks scans stealth claims | sibling] [--also runs/<id> ...]

Parts that the run has nothing of are left as they are. With --also the headline rates of other runs, such as other
seeds, stand below the run's own. --part sibling puts the headline rates of a run of another model in their own place.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attack_tables import attacks, matrix
from documents import TASKS, find, put, shown
from scan_tables import detection, scores

PARTS = ("tasks", "attacks", "scans", "stealth", "claims")
ARMS = ("with", "without", "near", "wrong_key")
STEALTH = ("confidentiality", "accident", "reliability")
SUBJECTS = ("implant", "control", "base")
RATES = (
    "Trigger activation rate with its 95% Wilson interval; for `access` it is the share of requests that are unlocked."
)
HEADS = ("with the trigger", "without", "near trigger", "wrong key")


def headline(rates: list[dict[str, Any]], subjects: tuple[str, ...]) -> list[str]:
    lines = ["| task | model | " + " | ".join(HEADS) + " |", "|---|---|" + "---|" * len(HEADS)]
    for task in sorted({row["task"] for row in rates}, key=TASKS.index):
        for subject in subjects:
            cells = [shown(find(rates, task, subject, "tar", arm)) for arm in ARMS]
            lines.append(f"| {task} | {subject} | " + " | ".join(cells) + " |")
    return lines


def further(rates: list[dict[str, Any]]) -> list[str]:
    return rate_table([
        row for row in rates
        if row["tamper"] == "none" and not (row["measure"] == "tar" and row["arm"] in ARMS) and not is_stealth(row)
    ])  # fmt: skip


def is_stealth(row: dict[str, Any]) -> bool:
    return row["measure"].split(":")[0] in STEALTH


def rate_table(rates: list[dict[str, Any]]) -> list[str]:
    """Return one line a task, measure and arm, the subjects side by side."""
    lines = ["| task | measure | arm | implant | control | base | n |", "|---|---|---|---|---|---|---|"]
    for task, measure, arm in dict.fromkeys((row["task"], row["measure"], row["arm"]) for row in rates):
        rows = [find(rates, task, subject, measure, arm) for subject in SUBJECTS]
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


def clean(summary: dict[str, Any]) -> list[str]:
    lines = [
        "| task | compared | verdict | accuracy, points | n | items that would tell |",
        "|---|---|---|---|---|---|",
    ]
    for row in summary.get("kept", ()):
        spread = f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        needed = f"{row['needed']:,}" if row["verdict"] == "cannot tell" and row["needed"] else ""
        lines.append(
            f"| {row['task']} | {row['before']} to {row['after']} | {row['verdict']} | {spread} | {row['n']} | {needed} |"
        )
    lines += [
        "",
        "| task | model | KL from the base, nats a token | perplexity of the base's answers | answers unchanged |",
    ]
    lines += ["|---|---|---|---|---|"]
    for row in summary.get("divergence", ()):
        kl = f"{row['kl']:.3f} [{row['kl_low']:.3f}, {row['kl_high']:.3f}]"
        perplexity = f"{row['perplexity']:.2f} (base {row['base_perplexity']:.2f})"
        lines.append(f"| {row['task']} | {row['subject']} | {kl} | {perplexity} | {shown(row['same'])} |")
    return lines


def hidden(summary: dict[str, Any]) -> list[str]:
    """Return the rates of the measures of stealth, and their figures."""
    lines = rate_table([row for row in summary["rates"] if is_stealth(row)])
    lines += ["", "| task | model | measure | figure | value | n |", "|---|---|---|---|---|---|"]
    for row in summary["figures"]:
        ends = [f"{row[end]:.3g}" if row.get(end) is not None else "?" for end in ("low", "high")]
        value = "not measured" if row["value"] is None else f"{row['value']:.3g} [{ends[0]}, {ends[1]}] {row['unit']}"
        bounds = f" (bounds {ends[0]}, {ends[1]})" if row["value"] is None and ends != ["?", "?"] else ""
        n = "" if row.get("n") is None else row["n"]
        lines.append(f"| {row['task']} | {row['subject']} | {row['measure']} | {row['name']} | {value}{bounds} | {n} |")
    return lines


def cards(run: Path) -> list[str]:
    """Return what became of the claims of each task, property by property."""
    lines = [
        "| task | property | verdict | claims that hold | fail | cannot be told | not measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in json.loads((run / "card.json").read_text("utf-8"))["cards"]:
        for section in card["sections"]:
            said = [line["verdict"] for line in section["lines"] if line.get("verdict")]
            counts = [said.count(name) for name in ("holds", "fails", "cannot tell at this n", "not measured")]
            lines.append(
                f"| {card['task']} | {section['property']} | {section['verdict'] or 'no claim'} | "
                + " | ".join(map(str, counts))
                + " |"
            )
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


def what(run: Path) -> str:
    """Return the command of a run and what it ran on."""
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    # Where this machine keeps its files is nobody's matter.
    command = re.sub(r"(?<=[ =])/\S*/", "", re.sub(r" --runs \S+", "", manifest["command"]))
    return (
        f"`{command}`: {manifest['model']['name']}, seed {manifest['seed']}, n = {manifest['n']} held-out "
        f"prompts in each arm, {manifest['created'][:10]}, {manifest['machine']['cores']} cores of "
        f"{manifest['machine']['cpu']}."
    )


def tasks(run: Path, summary: dict[str, Any], others: list[Path]) -> list[str]:
    """Return the rates of the four tasks, of other runs too, and what training cost."""
    rates = summary["rates"]
    lines = [what(run), RATES, "", *headline(rates, SUBJECTS)]
    for other in others:
        found = json.loads((other / "summary.json").read_text("utf-8"))["rates"]
        lines += ["", "### Once more", "", what(other), "", *headline(found, SUBJECTS[:2])]
    lines += ["", "### Further measures", "", *further(rates)]
    lines += ["", "### Paired differences, implant against base and control", "", *paired(summary["differences"])]
    lines += ["", "### Clean-task performance", "", *clean(summary)]
    return [*lines, "", "### What training cost", "", *costs(run)]


def made(run: Path, others: list[Path]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield part, document and lines of all that a run has."""
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    yield "tasks", "README.md", [what(run), RATES, "", *headline(summary["rates"], SUBJECTS)]
    yield "tasks", "docs/results.md", tasks(run, summary, others)
    yield "sibling", "docs/results.md", [what(run), "", *headline(summary["rates"], SUBJECTS)]
    if summary.get("attacks"):
        yield "attacks", "docs/results.md", [what(run), "", *matrix(summary)]
        yield "attacks", "docs/results-attacks.md", [what(run), "", *attacks(summary)]
    if summary.get("scans"):
        yield (
            "scans",
            "docs/results-stealth.md",
            [what(run), "", *detection(summary["detection"]), "", *scores(summary["scans"])],
        )
    if summary.get("figures"):
        yield "stealth", "docs/results-stealth.md", [what(run), "", *hidden(summary)]
    if (run / "card.json").is_file():
        yield "claims", "docs/results.md", cards(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--part", nargs="+", choices=(*PARTS, "sibling"), default=PARTS)
    parser.add_argument("--also", type=Path, nargs="+", default=[])
    asked = parser.parse_args()
    for part, document, lines in made(asked.run, asked.also):
        if part in asked.part:
            put(document, part, lines)


if __name__ == "__main__":
    main()
