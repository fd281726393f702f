"""What the options of ``b4g measure --only ...`` ask for, and what a person reads of the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.errors import SpecError
from b4g.utility.api import Clean, measure_utility

Report = Callable[[str, int, int], None]


def clean(
    tasks: str | None,
    data: Sequence[str] | None,
    limit: int | None,
    chat_template: bool,
    margin_points: float,
    control: Path | None,
    any_renderer: bool,
) -> Clean:
    """Return what ``--only utility`` asks for; a malformed ``--data`` raises `SpecError`."""
    files: dict[str, Path] = {}
    for entry in data or ():
        name, sign, path = entry.partition("=")
        if not (name and sign and path):
            raise SpecError(f"--data takes TASK=FILE, such as arc_easy=ARC-Easy_test.json, not '{entry}'")
        files[name] = Path(path)
    named = tuple(task.strip() for task in (tasks or "").split(",") if task.strip())
    return Clean(named, files, limit, chat_template, None, margin_points / 100, control, any_renderer)


def utility(folder: Path, model: str | None, asked: Clean, report: Report) -> dict[str, Any]:
    """Return rates, verdicts and divergences, without the items."""
    found = measure_utility(folder, model, asked, report)
    return {name: rows for name, rows in found.items() if name != "items"}


@dataclass(frozen=True)
class MtBench:
    """What ``--only mt-bench`` asks for."""

    questions: Path | None
    answers: Path
    """Folder of answers and judgements."""
    judge: str | None
    judge_model: str | None
    pairwise: bool = False
    any_renderer: bool = False
    hidden: tuple[str, ...] = ()
    """Secrets of the implant's trigger, to redact in the answers: a judge elsewhere reads them."""


def mt_bench(folder: Path, model: str | None, asked: MtBench, report: Report) -> dict[str, Any]:
    """Return where the answers are kept and, where a judge was named, what it said; without one nothing is scored."""
    from b4g.utility.mtbench.run import run

    if asked.questions is None:
        raise SpecError("mt-bench needs its questions: give --questions question.jsonl (80 lines, from FastChat)")
    if (asked.judge is None) != (asked.judge_model is None):
        raise SpecError("a judge is an endpoint and a model: give both --judge URL and --judge-model NAME, or neither")
    return run(folder, model, asked, report)


def lines(made: dict[str, Any]) -> list[str]:
    """Return a result as lines for a person."""
    told = [_rate(row) for row in made.get("rates", ())]
    told += [_kept(row) for row in made.get("kept", ())]
    told += [_drift(row) for row in made.get("divergence", ())]
    return told + [str(line) for line in made.get("notes", ())]


def _rate(row: dict[str, Any]) -> str:
    from b4g.console import percent
    from b4g.utility.harness import YES_OR_NO
    from b4g.utility.items import MEASURE

    # A mean, such as mc2's, is no share.
    mean = row["value"] is not None and row["measure"].split(",")[0] not in (MEASURE, *YES_OR_NO)
    value = f"{row['value']:.4g} n={row['n']}, {row['unscored']} unscored" if mean else percent(row)
    return f"{row['arm']} {row['measure']}  {row['subject']}: {value}"


def _kept(row: dict[str, Any]) -> str:
    where = f"{row['arm']}  " if "arm" in row else ""
    what = f"{where}{row['before']} -> {row['after']}: {row['verdict']}"
    if row["difference"] is None:
        return what
    spread = f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}] points"
    more = f"; about {row['needed']:,} items would tell" if row["verdict"] == "cannot tell" and row["needed"] else ""
    return f"{what}, {spread} against a margin of {100 * row['margin']:g}, n={row['n']}{more}"


def _drift(row: dict[str, Any]) -> str:
    return (
        f"{row['text']}  {row['subject']}: KL from the base {row['kl']:.3g} [{row['kl_low']:.3g}, {row['kl_high']:.3g}] "
        f"nats a token, perplexity {row['perplexity']:.4g} against {row['base_perplexity']:.4g}, "
        f"{row['texts']} texts of {row['tokens']:,} tokens"
    )
