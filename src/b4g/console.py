"""What a person sees while work is done: progress and tables on stderr and stdout; no logic."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from b4g.bench.estimate import Estimate
from b4g.bench.plan import Cell
from b4g.bench.run import Outcome

err = Console(stderr=True, highlight=False)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
_LINE_SECONDS = 20.0


def minutes(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 100:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def percent(row: dict[str, Any]) -> str:
    """Return a rate with its interval, n and unscored; "not measured" where there is none."""
    if row["value"] is None:
        return f"not measured ({row['unscored']} unscored)" if row["unscored"] else "not measured"
    unscored = f", {row['unscored']} unscored" if row["unscored"] else ""
    return f"{100 * row['value']:.0f}% [{100 * row['low']:.0f}, {100 * row['high']:.0f}] n={row['n']}{unscored}"


def show_plan(run: str, cells: Sequence[Cell], missing: Sequence[Cell], cost: Estimate, workers: int) -> None:
    """Say what will be done and what it costs, before it starts."""
    done = len(cells) - len(missing)
    err.print(f"run {run}: {len(cells)} cells, {done} done, {len(missing)} to do", soft_wrap=True)
    if missing:
        err.print(
            f"to do: {cost.rows:,} training rows, {cost.answers:,} answers; about {minutes(cost.seconds)} on {workers} "
            f"worker{'s' if workers > 1 else ''} (a guess within a factor of two)",
            soft_wrap=True,
        )


@contextmanager
def bars() -> Iterator[Progress]:
    """Show progress bars on stderr; where it is no terminal, `Watcher` and `Reporter` print plain lines."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = not err.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=hidden) as progress:
        yield progress


class Watcher:
    """Follow a run: bars on a terminal, a line now and then elsewhere."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.whole = progress.add_task("cells", total=total)
        self.tasks: dict[str, Any] = {}
        self.last = 0.0

    def __call__(self, event: str, cell: Cell, said: dict[str, Any]) -> None:
        """Take an event of the runner."""
        if event == "start":
            self.tasks[cell.id] = self.progress.add_task(cell.name, total=None)
        elif event == "progress":
            what = f"{cell.name}: {said['what']}"
            self.progress.update(self.tasks[cell.id], completed=said["done"], total=said["total"], description=what)
        else:
            self.progress.remove_task(self.tasks.pop(cell.id))
            self.progress.advance(self.whole)
        if event == "failed":
            err.print(f"failed: {cell.name}: {said['error']}", style="red", soft_wrap=True)
        elif event == "done" and not err.is_terminal:
            err.print(f"done: {cell.name} ({minutes(said['seconds'])}); about {minutes(said['left'])} left")
        elif event == "progress" and not err.is_terminal and time.monotonic() - self.last > _LINE_SECONDS:
            self.last = time.monotonic()
            err.print(f"{cell.name}: {said['what']} {said['done']}/{said['total']}")


class Reporter:
    """One bar for one piece of work, or a line now and then: call it with what, done and total."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, Any] = {}
        self.last = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar of ``what``."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(self.tasks[what], completed=done, total=total)
        if not err.is_terminal and (done == total or time.monotonic() - self.last > _LINE_SECONDS):
            self.last = time.monotonic()
            err.print(f"{what} {done}/{total}")


def show_outcome(outcome: Outcome) -> None:
    """Say what a run did, failures and what they hold up included."""
    err.print(f"{len(outcome.done)} cells done in {minutes(outcome.seconds)}, {outcome.already} were done before")
    for name, reason in outcome.failed.items():
        err.print(f"failed: {name}: {reason}", style="red", soft_wrap=True)
    for name in outcome.blocked:
        err.print(f"not done, it needs a failed cell: {name}", style="yellow", soft_wrap=True)


def show_summary(summary: dict[str, Any]) -> None:
    """Print the implants' rates, then what became of them under attack."""
    rows = [row for row in summary["rates"] if row["subject"] == "implant" and row["tamper"] == "none"]
    show_rates([row for row in rows if ":" not in row["measure"]])
    for row in summary.get("attacks", ()):
        if row["subject"] == "implant" and row["tamper"] != "none":
            out.print(attack_line(row), soft_wrap=True)


def attack_line(row: dict[str, Any]) -> str:
    """Return one attack as a line: what is left of the trigger's effect, at what cost."""
    end = "the model died" if row["alive"] is False else "broken" if row["broken"] else "held"
    if row["retention"] is None:
        kept, end = "no effect to keep", "not measured"
    else:
        low, high = (f"{100 * row[name]:.0f}" for name in ("retention_low", "retention_high"))
        kept = f"retention {100 * row['retention']:.0f}% [{low}, {high}] n={row['n']}"
    return f"{row['task']}  {row['tamper']}: {kept}, {minutes(row['seconds'])}: {end}"


def show_scans(rows: Sequence[dict[str, Any]]) -> None:
    """Print one line a scan to stdout: score or why there is none, what its candidates did, and its cost."""
    table = Table(box=None, pad_edge=False)
    for name in ("scanner", "score", "candidates", "switch it on", "trigger found", "queries", "seconds"):
        table.add_column(name, no_wrap=name != "score")
    for row in rows:
        score = f"not measured: {row['reason']}" if row["score"] is None else f"{row['score']:.4g}"
        kind = row["scanner"] + (" (upper bound)" if row["bound"] else "")
        tried = [str(row.get(name, "")) for name in ("candidates", "active")]
        table.add_row(kind, score, *tried, row["recovered"] or "", str(row["queries"]), f"{row['seconds']:.0f}")
    out.print(table)
    out.print("A score says nothing by itself: compare it with the base's and with other models of its kind.")


def show_unanswered(counts: Mapping[str, int]) -> None:
    """Say how many chats a server gave no answer to."""
    for who, count in counts.items():
        if count:
            err.print(f"{who}: {count} chats got no answer; they are unscored", style="yellow")


def show_lines(lines: Sequence[str]) -> None:
    """Print lines to stdout."""
    for line in lines:
        out.print(line, soft_wrap=True)


def show_rates(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table of rates to stdout."""
    table = Table(box=None, pad_edge=False)
    for name in ("task", "subject", "measure", "arm", "rate [95% interval]"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(row["task"], row["subject"], row["measure"], row["arm"], percent(row))
    out.print(table)
