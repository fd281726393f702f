"""Inline SVG: interval bars, differences around zero, loss curves; the page's CSS gives the colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_MOST_POINTS = 240
_WIDTH, _HEIGHT = 520, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 10, 34


@dataclass(frozen=True)
class Curve:
    """The losses of one implant, a number a step; those that are not finite are left out of the picture."""

    subject: str
    losses: tuple[float, ...]


def bar(value: float | None, low: float | None, high: float | None) -> Markup:
    """Return a bar from 0 to a rate with the whisker of its interval; an empty track where nothing was measured."""
    drawn = Markup('<rect class="track" width="100%" height="6" y="3" rx="1"/>')
    if value is not None:
        drawn += _rect("fill", 0, 100 * value)
    return _strip(drawn + _whisker(low, high, scale=100, zero=0))


def around_zero(value: float | None, low: float | None, high: float | None) -> Markup:
    """Return a bar from the middle (no difference) to a difference in -1..1, with the whisker of its interval."""
    drawn = Markup('<rect class="track" width="100%" height="6" y="3" rx="1"/>')
    if value is not None:
        drawn += _rect("fill", min(50, 50 + 50 * value), max(50, 50 + 50 * value))
    drawn += Markup('<line class="zero" x1="50%" x2="50%" y1="0" y2="12"/>')
    return _strip(drawn + _whisker(low, high, scale=50, zero=50))


def loss_chart(curves: Sequence[Curve]) -> Markup:
    """Return loss by step: each curve faint as recorded and bold as its running mean; nothing where none is finite."""
    kept = [(curve.subject, _finite(curve.losses)) for curve in curves]
    kept = [(subject, points) for subject, points in kept if points]
    if not kept:
        return Markup("")
    steps = max(2, *(points[-1][0] for _, points in kept))
    top = _ceiling(max(loss for _, points in kept for _, loss in points))
    drawn = _axes(steps, top)
    for subject, points in reversed(kept):
        mean = _running_mean(points)
        drawn += _path(_thinned(points), steps, top, f"raw {_style(subject)}")
        drawn += _path(_thinned(mean), steps, top, f"mean {_style(subject)}")
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="Loss by training step">{}</svg>'
    ).format(_WIDTH, _HEIGHT, drawn)


def ticks(largest: float, wanted: int = 5) -> list[float]:
    """Return round numbers from 0 up to ``largest``, about ``wanted`` of them above 0."""
    if not largest > 0 or not math.isfinite(largest):
        return [0.0]
    rough = largest / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [index * step for index in range(int(largest / step + 1e-9) + 1)]


def _style(subject: str) -> str:
    return subject if subject in ("implant", "control") else "other"


def _strip(drawn: Markup) -> Markup:
    return Markup('<svg class="strip" height="12" aria-hidden="true">{}</svg>').format(drawn)


def _percent(place: float) -> str:
    return f"{min(100.0, max(0.0, place)):.2f}%"


def _rect(style: str, start: float, end: float) -> Markup:
    start, end = min(100.0, max(0.0, start)), min(100.0, max(0.0, end))
    shape = Markup('<rect class="{}" x="{}" y="3" width="{}" height="6" rx="1"/>')
    return shape.format(style, _percent(start), _percent(end - start))


def _whisker(low: float | None, high: float | None, scale: float, zero: float) -> Markup:
    if low is None or high is None:
        return Markup("")
    left, right = _percent(zero + scale * low), _percent(zero + scale * high)
    line = Markup('<line class="whisker" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    caps = line.format(left, left, 2, 10) + line.format(right, right, 2, 10)
    return line.format(left, right, 6, 6) + caps


def _finite(losses: Sequence[float]) -> list[tuple[int, float]]:
    return [(step, loss) for step, loss in enumerate(losses, 1) if math.isfinite(loss)]


def _running_mean(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    half = len(points) // 50
    sums = [0.0]
    for _, loss in points:
        sums.append(sums[-1] + loss)
    spans = [(max(0, place - half), min(len(points), place + half + 1)) for place in range(len(points))]
    return [
        (step, (sums[end] - sums[start]) / (end - start)) for (step, _), (start, end) in zip(points, spans, strict=True)
    ]


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(points) // _MOST_POINTS)
    return points[:-1:every] + points[-1:]


def _ceiling(largest: float) -> float:
    marks = ticks(largest)
    step = marks[1] if len(marks) > 1 else 1.0
    return max(step, math.ceil(largest / step - 1e-9) * step)


def _x(step: float, steps: int) -> float:
    return _LEFT + (step - 1) / (steps - 1) * (_WIDTH - _LEFT - _RIGHT)


def _y(loss: float, top: float) -> float:
    return _TOP + (1 - loss / top) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(steps: int, top: float) -> Markup:
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    name = Markup('<text class="tick {}" x="{:.1f}" y="{:.1f}">{}</text>')
    drawn = Markup("")
    for mark in ticks(top):
        drawn += grid.format(_LEFT, _WIDTH - _RIGHT, _y(mark, top), _y(mark, top))
        drawn += name.format("end", _LEFT - 6, _y(mark, top) + 4, f"{mark:g}")
    # A mark beside the first step would run into its "1".
    for mark in [1, *(round(mark) for mark in ticks(steps)[1:] if mark - 1 > steps / 8)]:
        drawn += name.format("middle", _x(mark, steps), _HEIGHT - _BOTTOM + 15, f"{mark:,}")
    return drawn + name.format("end", _WIDTH - _RIGHT, _HEIGHT - 4, "step")


def _path(points: Sequence[tuple[int, float]], steps: int, top: float, style: str) -> Markup:
    places = " ".join(f"{_x(step, steps):.1f},{_y(loss, top):.1f}" for step, loss in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, places)
