"""Does a claim hold? The whole interval decides, and what was not measured never holds."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from b4g.claims import Claim, Sign

Verdict = Literal["fails", "not measured", "cannot tell at this n", "holds"]
ORDER: tuple[Verdict, ...] = ("fails", "not measured", "cannot tell at this n", "holds")
"""The worst first."""
_Z = 1.959964


class Evidence(NamedTuple):
    """One figure of a run; value is None where nothing was measured. An exact count is its own interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int = 0
    """What the figure rests on: prompts, items, texts, models, scanners."""
    unscored: int = 0
    where: str = ""
    """Which of several it is: an attack, a condition, a scanner."""
    rate: bool = False
    """Whether it is a share of n independent prompts, so that a larger n can be named."""


def exact(value: float | None, where: str = "") -> Evidence:
    """Return the evidence of something counted once, without a sampling error."""
    return Evidence(value, value, value, 0 if value is None else 1, where=where)


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return what one figure says of a claim: all of its 95% interval on the right side holds, on the wrong one fails."""
    if evidence.value is None or evidence.n < 1:
        return "not measured"
    if claim.known.sign == ">=":
        right = evidence.low is not None and evidence.low >= claim.limit
        wrong = evidence.high is not None and evidence.high < claim.limit
    else:
        right = evidence.high is not None and evidence.high <= claim.limit
        wrong = evidence.low is not None and evidence.low > claim.limit
    return "holds" if right else "fails" if wrong else "cannot tell at this n"


def decisive(sign: Sign, found: Sequence[Evidence], claim: Claim | None = None) -> Evidence:
    """Return the figure that decides: the worst verdict where there is a claim, then the worst value."""

    def badness(one: Evidence) -> tuple[int, float]:
        place = ORDER.index(judge(claim, one)) if claim else int(one.value is None)
        worst = math.inf if one.value is None else one.value
        return place, worst if sign == ">=" else -worst

    return min(found, key=badness, default=Evidence(None, None, None))


def worst(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the worst of some verdicts, or None where there is none."""
    return min(verdicts, key=ORDER.index, default=None)


def needed(claim: Claim, evidence: Evidence) -> int | None:
    """Return about how many prompts would tell, were the rate what it seems; None where no number would.

    Wilson's interval touches the limit t at n = z^2 t (1 - t) / (value - t)^2.
    """
    if evidence.value is None or not evidence.rate or evidence.value == claim.limit:
        return None
    spread = claim.limit * (1 - claim.limit)
    return math.ceil(_Z**2 * spread / (evidence.value - claim.limit) ** 2) or None
