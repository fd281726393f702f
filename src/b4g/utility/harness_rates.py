"""Accuracies with intervals and paired differences, out of what each item gave."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from b4g.stats import Rate, paired
from b4g.utility.harness import Evaluation, Value
from b4g.utility.verdict import compared


def outcomes(evaluation: Evaluation) -> dict[tuple[str, str], dict[str, list[Value]]]:
    """Return values by (task, metric) and subject, each subject's in the same order of items."""
    found: dict[tuple[str, str], dict[str, list[Value]]] = {}
    for item in evaluation.items:
        found.setdefault((item.task, item.metric), {}).setdefault(item.subject, []).append(item.value)
    return found


def is_rate(values: Sequence[Value]) -> bool:
    """Whether values are True, False or None, so that they have a rate and not a mean."""
    return all(value is None or isinstance(value, bool) for value in values)


def rates(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one row for each task, metric and subject: ``value``, 95% interval ``low`` and ``high``, ``n``, ``unscored``.

    Accuracies have Wilson's interval; means of other metrics, in the metric's own unit, have Student's.
    """
    rows = []
    for (task, metric), by_subject in outcomes(evaluation).items():
        for subject, values in by_subject.items():
            own = asdict(Rate.of(_verdicts(values))) if is_rate(values) else _mean(values)
            rows.append({"task": task, "metric": metric, "subject": subject, **own})
    return rows


def differences(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one row for each task, metric and pair: each subject after the base, and the implant after the control.

    ``difference`` is after minus before on the same items, with a 95% interval and a two-sided p: exact McNemar for
    accuracies, Student's t for other metrics.
    """
    rows = []
    for (task, metric), by_subject in outcomes(evaluation).items():
        for before, after in compared(evaluation.subjects):
            one, two = by_subject[before], by_subject[after]
            told = is_rate([*one, *two])
            own = asdict(paired(_verdicts(one), _verdicts(two))) if told else _shift(one, two)
            rows.append({"task": task, "metric": metric, "before": before, "after": after, **own})
    return rows


def _verdicts(values: Sequence[Value]) -> list[bool | None]:
    return [None if value is None else bool(value) for value in values]


def _mean(values: Sequence[Value]) -> dict[str, Any]:
    scored = [float(value) for value in values if value is not None]
    mean, low, high, _ = _student(scored)
    return {"value": mean, "low": low, "high": high, "n": len(scored), "unscored": len(values) - len(scored)}


def _shift(before: Sequence[Value], after: Sequence[Value]) -> dict[str, Any]:
    both = [
        float(two) - float(one) for one, two in zip(before, after, strict=True) if one is not None and two is not None
    ]
    mean, low, high, p = _student(both)
    return {"difference": mean, "low": low, "high": high, "p": p, "n": len(both), "unscored": len(before) - len(both)}


def _student(values: Sequence[float]) -> tuple[float | None, float | None, float | None, float | None]:
    """Return mean, 95% interval and the p-value of a mean of 0; one value has a mean alone."""
    from scipy.stats import t

    n = len(values)
    if n == 0:
        return None, None, None, None
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None, None, None
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    if error == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    half = float(t.ppf(0.975, n - 1)) * error
    return mean, mean - half, mean + half, 2 * float(t.sf(abs(mean) / error, n - 1))
