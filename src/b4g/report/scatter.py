"""Inline SVG of attacks: retention against the attacker's seconds, with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 130, 14, 36


class Point(NamedTuple):
    """One attack; value, low and high are retentions, cut to 0..1.05 in the picture."""

    name: str
    seconds: float | None
    value: float | None
    low: float | None
    high: float | None
    mark: str


def cost_chart(points: Sequence[Point]) -> Markup:
    """Return the chart, or nothing where no attack has a retention and a time."""
    shown = [point for point in points if point.seconds is not None and point.value is not None]
    if not shown:
        return Markup("")
    times = [max(0.1, point.seconds or 0.0) for point in shown]
    first, last = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)) + 1e-9)
    last = max(last, first + 1)
    drawn = _axes(first, last)
    taken: list[tuple[float, float]] = []
    for point, seconds in zip(shown, times, strict=True):
        drawn += _dot(point, _x(seconds, first, last), taken)
    label = "Retention by attacker's seconds"
    svg = Markup('<svg class="chart scatter" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return svg.format(_WIDTH, _HEIGHT, label, drawn)


def _x(seconds: float, first: int, last: int) -> float:
    return _LEFT + (math.log10(seconds) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _TOP + (1 - min(1.05, max(0.0, share)) / 1.05) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(first: int, last: int) -> Markup:
    grid = Markup('<line class="grid{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    name = Markup('<text class="tick {}" x="{:.1f}" y="{:.1f}">{}</text>')
    drawn = Markup("")
    for share in (0.0, 0.5, 1.0):
        drawn += grid.format(" half" if share == 0.5 else "", _LEFT, _WIDTH - _RIGHT, _y(share), _y(share))
        drawn += name.format("end", _LEFT - 6, _y(share) + 4, f"{share:.0%}")
    for power in range(first, last + 1):
        drawn += name.format("middle", _x(10.0**power, first, last), _HEIGHT - _BOTTOM + 16, f"{10.0**power:g} s")
    return drawn + name.format("start", _LEFT, _HEIGHT - 4, "attacker's seconds; bars are 95% intervals of retention")


def _dot(point: Point, x: float, taken: list[tuple[float, float]]) -> Markup:
    y = _y(point.value or 0.0)
    drawn = Markup("")
    if point.low is not None and point.high is not None:
        whisker = Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
        drawn += whisker.format(x, x, _y(point.low), _y(point.high))
    drawn += Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(point.mark, x, y)
    # A name moves down until it stands clear of those before it.
    place = y
    while any(abs(place - other) < 12 and abs(x - across) < 120 for across, other in taken):
        place += 12
    taken.append((x, place))
    return drawn + Markup('<text class="tick start" x="{:.1f}" y="{:.1f}">{}</text>').format(
        x + 8, place + 4, point.name
    )
