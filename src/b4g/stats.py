"""Rates with intervals and paired tests; nothing here is ever 0 for want of data."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.stats import binomtest, norm

Verdict = bool | None
_EDGE = 1e-12


@dataclass(frozen=True)
class Rate:
    """A share of scored outcomes with its 95% Wilson interval; all None where nothing was scored."""

    value: float | None
    """Share of True among the scored, in 0..1."""
    low: float | None
    high: float | None
    n: int
    """Scored outcomes: the denominator."""
    unscored: int
    """Outcomes that no judge could decide; shown, never counted as False."""

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> "Rate":
        """Return the rate of True among verdicts; None counts as unscored."""
        seen = list(verdicts)
        scored = [verdict for verdict in seen if verdict is not None]
        hits, n = sum(scored), len(scored)
        low, high = wilson(hits, n)
        return cls(hits / n if n else None, low, high, n, len(seen) - n)


def wilson(hits: int, n: int, confidence: float = 0.95) -> tuple[float | None, float | None]:
    """Return the Wilson score interval of ``hits`` in ``n`` trials, or (None, None) for no trial (Wilson 1927)."""
    if not 0 <= hits <= n:
        raise ValueError(f"hits must lie in 0..{n}, not {hits}")
    if n == 0:
        return None, None
    z = float(norm.ppf((1 + confidence) / 2))
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == n else min(1.0, centre + half))


@dataclass(frozen=True)
class Paired:
    """A difference of two rates on the same prompts, with its exact p-value."""

    difference: float | None
    """Share of True in ``after`` minus share in ``before``, in -1..1."""
    low: float | None
    high: float | None
    """95% interval (Agresti-Min 2005)."""
    p: float | None
    """Two-sided exact McNemar p-value."""
    n: int
    """Pairs in which both were scored."""
    unscored: int


def paired(before: Sequence[Verdict], after: Sequence[Verdict]) -> Paired:
    """Return the paired difference after - before by the exact McNemar test; both in the same prompt order."""
    if len(before) != len(after):
        raise ValueError(f"paired samples must have one length, not {len(before)} and {len(after)}")
    both = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    n, unscored = len(both), len(before) - len(both)
    if n == 0:
        return Paired(None, None, None, None, 0, unscored)
    gained = sum(a and not b for b, a in both)
    lost = sum(b and not a for b, a in both)
    p = float(binomtest(min(gained, lost), gained + lost).pvalue) if gained + lost else 1.0
    low, high = _agresti_min(gained, lost, n)
    return Paired((gained - lost) / n, low, high, p, n, unscored)


def _agresti_min(gained: int, lost: int, n: int) -> tuple[float, float]:
    z = float(norm.ppf(0.975))
    total = n + 2
    centre = (gained - lost) / total
    variance = (gained + lost + 1) / total - centre**2
    half = z * math.sqrt(max(variance, 0.0) / total)
    return max(-1.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Area:
    """The area under a ROC curve with its 95% interval; all None where a side is empty."""

    value: float | None
    """Chance that a positive scores higher than a negative, ties counted half; in 0..1."""
    low: float | None
    high: float | None


def higher(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Return the chance that a positive has the higher number, a tie counted half (Mann-Whitney 1947)."""
    if not positives or not negatives:
        raise ValueError("an AUROC takes at least one number of each kind")
    won = sum((one > other) + 0.5 * (one == other) for one in positives for other in negatives)
    return won / (len(positives) * len(negatives))


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> Area:
    """Return the area under the ROC curve with the 95% interval of Newcombe (2006), method 5.

    That interval solves for the areas whose own standard error reaches the observed one. It keeps a width at an observed
    1, where those by a normal approximation or by resampling shrink to a point.
    """
    m, n = len(positives), len(negatives)
    if not m or not n:
        return Area(None, None, None)
    area, z = higher(positives, negatives), float(norm.ppf(0.975))

    def gap(theta: float) -> float:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return abs(area - theta) - z * math.sqrt(theta * (1 - theta) * spread / (m * n))

    low = 0.0 if area == 0 else float(brentq(gap, 0.0, min(area, 1 - _EDGE)))
    high = 1.0 if area == 1 else float(brentq(gap, max(area, _EDGE), 1.0))
    return Area(area, low, high)


def detected(positives: Sequence[float], negatives: Sequence[float], alarms: float = 0.05) -> Rate:
    """Return the share of positives above the lowest threshold that gives at most that share of false alarms.

    With fewer negatives than 1 / ``alarms`` no false alarm at all is allowed. No rate without negatives.
    """
    if not negatives:
        return Rate.of([None] * len(positives))
    ordered = sorted(negatives, reverse=True)
    threshold = ordered[min(int(alarms * len(ordered)), len(ordered) - 1)]
    return Rate.of(score > threshold for score in positives)
