"""Inline SVG of attacks: retention against the attacker's seconds, with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 24, 14, 36
_STEP, _BESIDE = 11, 13
"""Height that a number takes, and how far it stands beside its dot, in pixels."""


class Point(NamedTuple):
    """One attack; value, low and high are retentions, cut to 0..1.05 in the picture."""

    number: int
    """What stands beside its dot: the number of its row in the table below."""
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
    places = [(_x(seconds, first, last), _y(point.value or 0.0)) for point, seconds in zip(shown, times, strict=True)]
    drawn = _axes(first, last) + Markup("").join(map(_dot, shown, places))
    taken = list(places)
    for point, place in zip(shown, places, strict=True):
        taken.append(_clear(place, taken))
        drawn += Markup('<text class="tick middle" x="{:.1f}" y="{:.1f}">{}</text>').format(
            taken[-1][0], taken[-1][1] + 4, point.number
        )
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
    return drawn + name.format(
        "start", _LEFT, _HEIGHT - 4, "attacker's seconds; bars: 95% intervals of retention; numbers: rows of the table"
    )


def _dot(point: Point, place: tuple[float, float]) -> Markup:
    drawn = Markup("")
    if point.low is not None and point.high is not None:
        whisker = Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
        drawn += whisker.format(place[0], place[0], _y(point.low), _y(point.high))
    dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>')
    return drawn + dot.format(point.mark, *place, point.name)


def _clear(place: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return where a dot's number stands clear of dots and other numbers: beside it if possible, else ever further off."""
    x, y = place
    most = _HEIGHT // _STEP
    rows = sorted(range(most, -most - 1, -1), key=abs)
    spots = [(x + side * _BESIDE, y + row * _STEP) for row in rows for side in (1, -1)]
    free = (
        spot
        for spot in spots
        if _TOP <= spot[1] <= _HEIGHT - _BOTTOM
        and all(abs(spot[0] - across) >= _BESIDE or abs(spot[1] - down) >= _STEP for across, down in taken)
    )
    return next(free, spots[0])
