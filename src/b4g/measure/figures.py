"""Figures: the numbers of a stealth measure that are no plain rate, each with its interval and what it assumes."""

from collections.abc import Iterable, Sequence
from typing import Any

from b4g.measure.scores import Context, Score
from b4g.stats import Rate, wilson

Interval = tuple[float | None, float | None, float | None]
"""Value, low and high; None where it can't be told."""


def figure(
    head: Score, context: Context, name: str, value: Interval, unit: str, n: int, note: str = ""
) -> dict[str, Any]:
    """Return the row of one figure; ``head`` is any score of the task and subject, its measure's sub-kind left out."""
    return {
        "task": head.task,
        "model": context.model,
        "subject": head.subject,
        "tamper": context.tamper,
        "measure": head.measure.partition(":")[0],
        "name": name,
        "value": value[0],
        "low": value[1],
        "high": value[2],
        "unit": unit,
        "n": n,
        "note": note,
        "seed": context.seed,
    }


def bounded(verdicts: Iterable[bool | None]) -> tuple[Interval, int]:
    """Return the share of True and its n; the upper bound is Wilson's, or by the rule of three where there is none.

    The rule of three (3 / n) is a one-sided 95% bound (Hanley and Lippman-Hand 1983).
    """
    rate = Rate.of(verdicts)
    if rate.value is None:
        return (None, None, None), 0
    high = min(1.0, 3 / rate.n) if rate.value == 0 else rate.high
    return (rate.value, rate.low, high), rate.n


def share(rate: Rate) -> Interval:
    """Return a rate as an interval."""
    return rate.value, rate.low, rate.high


def scaled(values: Interval, by: float) -> Interval:
    """Return an interval times a number."""
    value, low, high = (None if one is None else one * by for one in values)
    return value, low, high


def averaged(means: Sequence[float], prompts: int) -> Interval:
    """Return the plain mean of rates with a Wilson interval as wide as one of that many prompts.

    The rates are of the same prompts, so that more of them make the mean no surer than one of them is.
    """
    if not means or not prompts:
        return None, None, None
    value = sum(means) / len(means)
    low, high = wilson(round(value * prompts), prompts)
    return value, None if low is None else min(low, value), None if high is None else max(high, value)
