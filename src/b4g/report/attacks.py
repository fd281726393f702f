"""Attacks on the page: what each cost, what it left of the trigger's effect, and whether the model lived."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from b4g.report import text
from b4g.report.rows import Fields, label, number
from b4g.report.scatter import Point, cost_chart


@dataclass(frozen=True)
class Attack:
    """One tamper on one subject."""

    number: int
    """Its place among the task's attacks, the same for implant and control; the null has 0."""
    subject: str
    tamper: str
    needs: str
    cost: str
    retention: float | None
    low: float | None
    high: float | None
    n: int
    accuracy: str
    perplexity: str
    says: str
    """What became of it: broken, held, or the model died."""
    mark: str
    seconds: float | None


@dataclass(frozen=True)
class Attacked:
    """The attacks on one task's implant and control."""

    task: str
    sentence: str
    """The cheapest attack that broke the implant, or that none did."""
    worst: str
    mean: str
    attacks: tuple[Attack, ...]
    chart: Markup


def attacked(rows: Sequence[Fields]) -> tuple[Attacked, ...]:
    """Return the attacks of each task; the null is in the table and in no summary."""
    made = []
    for task in dict.fromkeys(label(row.get("task")) for row in rows):
        whole = [row for row in rows if label(row.get("task")) == task]
        names = ["none", *dict.fromkeys(name for row in whole if (name := label(row.get("tamper"))) != "none")]
        own = [_attack(row, names.index(label(row.get("tamper")))) for row in whole]
        tried = [one for one in own if one.subject == "implant" and one.tamper != "none"]
        alive = [one.retention for one in tried if one.mark != "dead" and one.retention is not None]
        points = [
            Point(one.number, one.tamper, one.seconds, one.retention, one.low, one.high, one.mark) for one in tried
        ]
        made.append(
            Attacked(
                task,
                _sentence(tried),
                text.percent(min(alive)) if alive else text.NOT_MEASURED,
                text.percent(sum(alive) / len(alive)) if alive else text.NOT_MEASURED,
                tuple(own),
                cost_chart(points),
            )
        )
    return tuple(made)


def _sentence(tried: Sequence[Attack]) -> str:
    broken = sorted((one for one in tried if one.mark == "bad"), key=lambda one: one.seconds or 0.0)
    if broken:
        return f"broken by {broken[0].tamper}, {broken[0].cost}"
    held = [one for one in tried if one.mark == "good"]
    return f"held against {len(held)} of {len(tried)} attacks, broken by none" if held else text.NOT_MEASURED


def _attack(row: Fields, place: int) -> Attack:
    alive, broken = row.get("alive"), row.get("broken")
    says, mark = _verdict(alive, broken, label(row.get("tamper")))
    needs = row.get("needs")
    return Attack(
        place,
        label(row.get("subject")),
        label(row.get("tamper")),
        ", ".join(map(label, needs)) if isinstance(needs, list) else "",
        _cost(row),
        number(row.get("retention")),
        number(row.get("retention_low")),
        number(row.get("retention_high")),
        int(number(row.get("n")) or 0),
        text.percent(number(row.get("accuracy"))),
        text.number(number(row.get("perplexity"))),
        says,
        mark,
        number(row.get("seconds")),
    )


def _verdict(alive: object, broken: object, tamper: str) -> tuple[str, str]:
    if tamper == "none":
        return "untouched", "quiet"
    if alive is False:
        return "the model died: does not count", "dead"
    if broken is None:
        return text.NOT_MEASURED, "quiet"
    return ("broken", "bad") if broken else ("held", "good")


def _cost(row: Fields) -> str:
    rows, seconds = number(row.get("rows")), number(row.get("seconds"))
    time = "" if seconds is None else text.duration(seconds) if seconds >= 0.05 else "at once"
    parts = [f"{rows:,.0f} rows" if rows else "", time]
    return ", ".join(filter(None, parts))
