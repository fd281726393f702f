"""What the scripts that write tables share: how a rate is shown, and where in a document a table stands."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]
TASKS = ("safety", "style", "access", "identity")


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def shown(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "not measured"
    unscored = f", {row['unscored']} unscored" if row["unscored"] else ""
    return f"{percent(row['value'])} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]{unscored}"


def find(rates: list[Row], task: str, subject: str, measure: str, arm: str, tamper: str = "none") -> Row | None:
    """Return the one rate of that place, or None where it is not there."""
    wanted = {"task": task, "subject": subject, "measure": measure, "arm": arm, "tamper": tamper}
    return next((row for row in rates if all(row[key] == value for key, value in wanted.items())), None)


def put(document: str, part: str, lines: list[str]) -> None:
    """Write lines between a document's markers of that part."""
    path, start, end = ROOT / document, f"<!-- {part}:start -->", f"<!-- {part}:end -->"
    text = path.read_text("utf-8")
    head, tail = text.split(start)[0], text.split(end)[1]
    path.write_text(head + start + "\n" + "\n".join(lines) + "\n" + end + tail, "utf-8")
