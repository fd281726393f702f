"""Is the clean performance kept? Non-inferiority at a margin: the interval decides, and says what n would."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from scipy.stats import norm

from b4g.stats import Verdict as Outcome
from b4g.stats import paired

MARGIN = 0.01
"""Loss of accuracy that still counts as kept: one point."""


@dataclass(frozen=True)
class Kept:
    """The verdict on a paired difference of accuracy, after minus before."""

    verdict: Literal["kept", "lost", "cannot tell", "not measured"]
    margin: float
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    """Two-sided exact McNemar p-value of any difference at all."""
    n: int
    unscored: int
    needed: int | None
    """Items that would tell, were the difference and the rate of disagreement what they seem; None if none would."""


def kept(before: Sequence[Outcome], after: Sequence[Outcome], margin: float = MARGIN) -> Kept:
    """Return *kept* if the whole 95% interval lies above minus the margin, *lost* if it lies below, else *cannot tell*."""
    if not 0 < margin < 1:
        raise ValueError(f"a margin lies between 0 and 1, not {margin}")
    found = paired(before, after)
    if found.difference is None or found.low is None or found.high is None:
        return Kept("not measured", margin, None, None, None, None, 0, found.unscored, None)
    verdict: Literal["kept", "lost", "cannot tell"] = (
        "kept" if found.low > -margin else "lost" if found.high < -margin else "cannot tell"
    )
    disagreeing = sum(b is not None and a is not None and a != b for b, a in zip(before, after, strict=True))
    needed = _needed(disagreeing, found.difference, found.n, margin) if verdict == "cannot tell" else found.n
    return Kept(verdict, margin, found.difference, found.low, found.high, found.p, found.n, found.unscored, needed)


def compared(subjects: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs (before, after) that are compared: each subject with the base, the implant with the control."""
    base, *others = subjects
    pairs = [(base, name) for name in others]
    return pairs + ([("control", "implant")] if {"control", "implant"} <= set(others) else [])


def _needed(disagreeing: int, difference: float, n: int, margin: float) -> int | None:
    """Return the n at which the interval's half width is the distance of the difference from minus the margin."""
    distance = abs(difference + margin)
    if distance == 0:
        return None
    # None that disagree is no proof that none would: one more is taken, as the interval itself does.
    variance = (disagreeing + 1) / (n + 2) - difference**2
    return max(n + 1, ceil(max(variance, 0.0) * (float(norm.ppf(0.975)) / distance) ** 2))
