"""What the implants did: losses, checks, time and memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from b4g.report import svg, text, words
from b4g.report.folder import Cell, read_json
from b4g.report.rows import Fields, label, mapping, number


@dataclass(frozen=True)
class Trained:
    """What one implant cell did."""

    subject: str
    rows: str
    steps: str
    tokens: str
    speed: str
    seconds: str
    peak_memory: str
    last_loss: str
    note: str
    checks: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """(epoch, ((what was checked, value), ...)) each."""


@dataclass(frozen=True)
class Training:
    """The implants of a task and the picture of their losses."""

    task: str
    chart: Markup
    implants: tuple[Trained, ...]


def trainings(cells: Sequence[Cell]) -> tuple[Training, ...]:
    """Return the implants by task, implant before control; a control of no task is that of every task."""
    found: dict[str, list[tuple[Cell, Fields]]] = {}
    for cell in cells:
        record = read_json(cell.folder / "implant.json") if cell.state == "done" else {}
        if record:
            found.setdefault(cell.task, []).append((cell, record))
    shared = found.pop("", [])
    return tuple(
        _training(task, [*own, *shared]) for task, own in (found or {"all tasks": []}).items() if own or shared
    )


def _training(task: str, own: Sequence[tuple[Cell, Fields]]) -> Training:
    ranked = sorted(own, key=lambda pair: (*words.SUBJECTS, pair[0].subject).index(pair[0].subject))
    curves = [svg.Curve(cell.subject, _losses(record)) for cell, record in ranked]
    return Training(task, svg.loss_chart(curves), tuple(_trained(cell, record) for cell, record in ranked))


def _losses(record: Fields) -> tuple[float, ...]:
    losses = record.get("losses")
    values = losses if isinstance(losses, list) else []
    # A step without a number keeps its place: the picture leaves it out.
    return tuple(float("nan") if number(loss) is None else float(loss) for loss in values)


def _trained(cell: Cell, record: Fields) -> Trained:
    losses = _losses(record)
    checks = record.get("checks")
    counts = (text.number(number(record.get(field))) for field in ("rows", "steps", "tokens", "tokens_per_second"))
    rows, steps, tokens, speed = counts
    return Trained(
        cell.subject,
        rows,
        steps,
        tokens,
        speed,
        text.duration(number(record.get("seconds"))),
        text.memory(number(record.get("peak_memory_mb"))),
        text.number(losses[-1]) if losses else text.NOT_RECORDED,
        ", ".join(_notes(cell, record)),
        tuple(filter(_says, map(_check, filter(mapping, checks)))) if isinstance(checks, list) else (),
    )


def _notes(cell: Cell, record: Fields) -> list[str]:
    shared = ["shared by all tasks"] if not cell.task else []
    return [*shared, "stopped early"] if record.get("stopped_early") is True else shared


def _check(check: Fields) -> tuple[str, tuple[tuple[str, str], ...]]:
    # That it stopped there is said beside the subject.
    found = [(name, value) for name, value in check.items() if name not in ("epoch", "stop")]
    said = [(words.arm(name), _checked(name, value)) for name, value in found]
    return label(check.get("epoch")), tuple(said)


def _says(check: tuple[str, tuple[tuple[str, str], ...]]) -> bool:
    return bool(check[1])


def _checked(name: str, value: object) -> str:
    if name in words.HEADLINE and number(value) is not None:
        return text.percent(number(value))
    return label(value) if isinstance(value, bool) else text.number(number(value))
