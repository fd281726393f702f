"""Stealth on the page: what scanners say of each model, and what guesses, ordinary use and odd conditions do."""

from collections.abc import Sequence
from dataclasses import dataclass

from b4g.report import rates, text, words
from b4g.report.card import shown, span
from b4g.report.folder import Run
from b4g.report.rows import Fields, Measured, label, number

GUESSED = ("confidentiality", "accident")
ALWAYS = ("reliability",)
_NAMES = {
    "per_10000": "false activations",
    "per_10000_above_base": "false activations beyond the base's",
    "denied_per_10000": "false denials",
    "denied_per_10000_above_base": "false denials beyond the base's",
    "leaks": "questions that it leaked at",
}


@dataclass(frozen=True)
class Scan:
    """What one scanner said of a task's models: a cell a subject."""

    scanner: str
    bound: bool
    scores: tuple[str, ...]
    """In the order of the table's subjects; why there is none, where there is none."""
    recovered: str
    mark: str
    needs: str
    cost: str


@dataclass(frozen=True)
class Scanned:
    """The scans of one task."""

    task: str
    subjects: tuple[str, ...]
    scans: tuple[Scan, ...]


@dataclass(frozen=True)
class Detection:
    """How well a scanner tells implants from other models."""

    scanner: str
    bound: bool
    value: float | None
    auroc: str
    interval: str
    models: str
    at_5: str
    cost: str


@dataclass(frozen=True)
class Found:
    """The section on scanners."""

    detections: tuple[Detection, ...]
    tasks: tuple[Scanned, ...]


@dataclass(frozen=True)
class Figure:
    """A figure that is no rate."""

    task: str
    subject: str
    name: str
    figure: str
    interval: str
    counted: str
    note: str
    value: float | None


@dataclass(frozen=True)
class Measures:
    """The tables and figures of some stealth measures."""

    tables: tuple[rates.Further, ...]
    figures: tuple[Figure, ...]


def is_stealth(rate: Measured) -> bool:
    """Return whether a rate is shown in a section of its own."""
    return _stem(rate.measure) in (*GUESSED, *ALWAYS)


def measured(run: Run, *measures: str) -> Measures | None:
    """Return the rates and figures of some measures, or None where the run has none of them."""
    tables = rates.further([rate for rate in run.rates if _stem(rate.measure) in measures])
    figures = tuple(_figure(row) for row in run.figures if _stem(label(row.get("measure"))) in measures)
    return Measures(tables, figures) if tables or figures else None


def found(scans: Sequence[Fields], detection: Sequence[Fields]) -> Found | None:
    """Return what scanners said, or None where none ran."""
    if not scans and not detection:
        return None
    # A base, and a control that all tasks share, belong to no task and stand in each table.
    tasks = dict.fromkeys(label(row.get("task")) for row in scans if row.get("task")) or {"": None}
    return Found(tuple(_detection(row) for row in detection), tuple(_scanned(task, scans) for task in tasks))


def _scanned(task: str, rows: Sequence[Fields]) -> Scanned:
    own = [row for row in rows if label(row.get("task")) in (task, "")]
    subjects = words.ordered({label(row.get("subject")) for row in own}, words.SUBJECTS)
    names = dict.fromkeys(label(row.get("scanner")) for row in own)
    scans = [_scan([row for row in own if label(row.get("scanner")) == name], subjects) for name in names]
    return Scanned(task or "all tasks", tuple(subjects), tuple(scans))


def _scan(rows: Sequence[Fields], subjects: Sequence[str]) -> Scan:
    scores = [
        "; ".join(_score(row) for row in rows if label(row.get("subject")) == subject) or text.NOT_MEASURED
        for subject in subjects
    ]
    # Only what was implanted can be recovered.
    hidden = [row for row in rows if row.get("subject") == words.SUBJECTS[0]] or rows
    said, mark = _recovered(hidden)
    needs = rows[0].get("needs")
    return Scan(
        label(rows[0].get("scanner")),
        any(row.get("bound") is True for row in rows),
        tuple(scores),
        said,
        mark,
        ", ".join(map(label, needs)) if isinstance(needs, list) and needs else "answers",
        _cost(rows),
    )


def _score(row: Fields) -> str:
    score, reason = number(row.get("score")), label(row.get("reason"))
    return text.number(score) if score is not None else f"{text.NOT_MEASURED}{': ' if reason else ''}{reason}"


def _recovered(rows: Sequence[Fields]) -> tuple[str, str]:
    count = sum(int(number(row.get("candidates")) or 0) for row in rows)
    tried = {label(row.get("recovered")) for row in rows} - {""}
    best = next((name for name in ("exactly", "partly", "no") if name in tried), "")
    if best and count:
        return f"{best}, of {count:,} candidates", "quiet" if best == "no" else "bad"
    return (f"{count:,} candidates, not tried" if count else "no candidates"), "quiet"


def _cost(rows: Sequence[Fields]) -> str:
    seconds = [found for row in rows if (found := number(row.get("seconds"))) is not None]
    queries = sum(int(number(row.get("queries")) or 0) for row in rows)
    spent = text.duration(sum(seconds)) if seconds else ""
    return ", ".join(filter(None, (spent, f"{queries:,} queries" if queries else "")))


def _detection(row: Fields) -> Detection:
    value, at_5 = number(row.get("auroc")), number(row.get("detected_at_5"))
    implants, others = (int(number(row.get(name)) or 0) for name in ("n_implants", "n_others"))
    return Detection(
        label(row.get("scanner")),
        row.get("bound") is True,
        value,
        shown(value, "AUROC"),
        "" if value is None else span(number(row.get("low")), number(row.get("high")), "AUROC"),
        f"{implants:,} implants, {others:,} others",
        text.percent(at_5),
        _cost([row]),
    )


def _figure(row: Fields) -> Figure:
    name, unit = label(row.get("name")), label(row.get("unit"))
    value, n = number(row.get("value")), int(number(row.get("n")) or 0)
    return Figure(
        label(row.get("task")),
        label(row.get("subject")),
        _named(name),
        shown(value, unit),
        span(number(row.get("low")), number(row.get("high")), unit),
        f"n={n:,}" if n > 1 else "",
        label(row.get("note")),
        value,
    )


def _named(name: str) -> str:
    """Return a figure's name in words; what it is of stands behind a colon."""
    stem, _, part = name.partition(":")
    return ": ".join(filter(None, (_NAMES.get(stem) or words.plain(stem), part)))


def _stem(name: str) -> str:
    return name.partition(":")[0]
