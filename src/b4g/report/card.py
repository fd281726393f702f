"""The card on the page: what was claimed of each task's implant, and what became of it. It is read from `card.json`."""

from collections.abc import Sequence
from dataclasses import dataclass

from b4g.report import text
from b4g.report.rows import Fields, label, mapping, number

_MARKS = {"holds": "good", "fails": "bad", "cannot tell at this n": "open"}
NO_CLAIM = "no claim"
_LISTED = "retention_after"
"""Figures that stand together in one line: a sweep has dozens of them."""


@dataclass(frozen=True)
class Line:
    """One figure, with its claim and verdict where there is one."""

    name: str
    title: str
    figure: str
    interval: str
    counted: str
    beside: str
    """Which condition it is, and what there is to say of it."""
    claim: str
    verdict: str
    mark: str
    value: float | None


@dataclass(frozen=True)
class Section:
    """One property of the card."""

    name: str
    verdict: str
    mark: str
    lines: tuple[Line, ...]
    listed: tuple[Line, ...]


@dataclass(frozen=True)
class Card:
    """One task's card."""

    task: str
    hash: str
    says: str
    """How many claims hold, fail, and so on."""
    sections: tuple[Section, ...]


def cards(stored: Sequence[Fields]) -> tuple[Card, ...]:
    """Return the cards of a run as the page prints them."""
    made = []
    for entry in stored:
        sections = tuple(_section(one) for one in _list(entry.get("sections")))
        made.append(Card(label(entry.get("task")), label(entry.get("hash")), _tally(sections), sections))
    return tuple(made)


def shown(value: float | None, unit: str) -> str:
    """Return a figure with its unit, as a reader says it."""
    if value is None:
        return text.NOT_MEASURED
    if _is_share(unit):
        return f"{_points(value)}%"
    if unit == "seconds":
        return text.duration(value)
    if unit == "MB":
        return text.memory(value)
    if unit == "AUROC":
        return f"{value:.2f}"
    return text.number(value) if unit == "scanners" else f"{text.number(value)} {unit}".strip()


def span(low: float | None, high: float | None, unit: str) -> str:
    """Return an interval without its unit; nothing where a bound lacks or the figure is exact."""
    if low is None or high is None or low == high:
        return ""
    ends = (
        _points(end) if _is_share(unit) else f"{end:.2f}" if unit == "AUROC" else text.number(end)
        for end in (low, high)
    )
    return f"[{', '.join(ends)}]".replace("-", "\N{MINUS SIGN}")


def _is_share(unit: str) -> bool:
    return unit.startswith("share") or unit == "TAR"


def _points(value: float) -> str:
    points = 100 * value
    if 0 < points < 1 or 99 < points < 100:
        return text.share(value)
    return f"{points:.1f}".removesuffix(".0").replace("-", "\N{MINUS SIGN}")


def _section(entry: Fields) -> Section:
    verdict = label(entry.get("verdict")) or NO_CLAIM
    lines = [_line(one) for one in _list(entry.get("lines"))]
    apart = tuple(line for line in lines if line.name == _LISTED)
    kept = tuple(line for line in lines if line.name != _LISTED)
    return Section(label(entry.get("property")), verdict, _MARKS.get(verdict, "quiet"), kept, apart)


def _line(entry: Fields) -> Line:
    unit, value = label(entry.get("unit")), number(entry.get("value"))
    low, high = number(entry.get("low")), number(entry.get("high"))
    limit, verdict = number(entry.get("limit")), label(entry.get("verdict"))
    sign = "\N{GREATER-THAN OR EQUAL TO}" if label(entry.get("claim")).startswith(">") else "\N{LESS-THAN OR EQUAL TO}"
    n, unscored = (int(number(entry.get(name)) or 0) for name in ("n", "unscored"))
    needed = number(entry.get("needed"))
    more = f"about {needed:,.0f} would tell" if needed else ""
    return Line(
        label(entry.get("name")),
        label(entry.get("title")),
        shown(value, unit),
        span(low, high, unit),
        text.counted(n, unscored) if n > 1 or unscored else "",
        ", ".join(filter(None, (label(entry.get("where")), label(entry.get("note")), more))),
        "" if limit is None else f"{sign} {shown(limit, unit)}",
        verdict,
        _MARKS.get(verdict, "quiet"),
        value,
    )


def _tally(sections: Sequence[Section]) -> str:
    verdicts = [line.verdict for section in sections for line in section.lines if line.verdict]
    if not verdicts:
        return "nothing is claimed"
    counts = [(verdicts.count(name), name) for name in ("holds", "fails", "cannot tell at this n", "not measured")]
    said = ", ".join(f"{count} {_PLURAL[name]}" for count, name in counts if count)
    return f"of {len(verdicts)} claims {said}"


_PLURAL = {
    "holds": "hold",
    "fails": "fail",
    "cannot tell at this n": "can't be told at this n",
    "not measured": "not measured",
}


def _list(value: object) -> list[Fields]:
    return [mapping(one) for one in value] if isinstance(value, list) else []
