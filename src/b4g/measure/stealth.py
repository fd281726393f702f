"""The stealth measures of an implant: confidentiality, accident and reliability. Ask once, score and summarise at will."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from b4g.backdoor import Backdoor
from b4g.errors import DataError, SpecError, unknown
from b4g.generate.base import Progress
from b4g.measure import accident, confidentiality, reliability
from b4g.measure.asking import Size, Suspect
from b4g.measure.leaks import questions_hash
from b4g.measure.records import Record
from b4g.measure.scores import Context, Score, rates

__all__ = [
    "BESIDE_BASE",
    "FULL",
    "MEASURES",
    "QUICK",
    "Size",
    "ask",
    "beside_base",
    "questions_hash",
    "rows",
    "score_records",
    "size_of",
]

MEASURES = ("confidentiality", "accident", "reliability")
BESIDE_BASE = ("accident",)
"""Those that put a subject beside its base: what the base does by itself is no false activation."""
FULL = Size(n=30, accident=400, guesses=240)
"""Within 5 minutes an implant, all three together, for 135M weights on one core."""
QUICK = Size(n=6, accident=80, guesses=30, long_tokens=1000)
"""Within 75 seconds, likewise."""


SIZES = {"quick": QUICK, "full": FULL, "tiny": Size(n=2, accident=6, guesses=4, long_tokens=64)}
"""By name; ``tiny`` is for trying things out."""


def size_of(name: str, traffic: Sequence[str] = (), paraphrases: str = "") -> Size:
    """Return the size of that name with the user's files; a wrong name, or a file that is not there, raises."""
    if name not in SIZES:
        raise SpecError(unknown("size of the stealth measures", name, SIZES))
    for file in filter(None, (*traffic, paraphrases)):
        if not Path(file).is_file():
            raise DataError(f"no file at {file}")
    return replace(SIZES[name], data=tuple(traffic), paraphrases=paraphrases)


def ask(
    measure: str,
    model: Suspect,
    backdoor: Backdoor,
    size: Size,
    seed: int,
    progress: Progress | None = None,
    *,
    subject: str = "",
) -> list[Record]:
    """Return the records of a measure; ``model`` is the merged implant, or whatever answers chats.

    ``subject`` names who is asked; without it the model's own folder says so. Raises `B4GError` for an unknown measure, for
    a file that can't be read, and where the model itself is needed and only its answers are at hand.
    """
    found = _checked(measure)(model, backdoor, size, seed, progress, subject)
    if not found:
        raise SpecError(f"backdoor '{backdoor.name}' has nothing to ask for {measure}")
    return found


def score_records(measure: str, records: Sequence[Record], backdoor: Backdoor) -> list[Score]:
    """Return one score a record, in order; nothing is generated."""
    _checked(measure)
    judges = {
        "confidentiality": confidentiality.score_records,
        "accident": accident.score_records,
        "reliability": reliability.score_records,
    }
    return judges[measure](records, backdoor)


def rows(
    measure: str, scores: Sequence[Score], backdoor: Backdoor, context: Context, size: Size
) -> dict[str, list[dict[str, Any]]]:
    """Return the summary's rows of one task and subject: rates, one an arm, and figures."""
    _checked(measure)
    if not scores:
        return {"rates": [], "figures": []}
    if measure == "confidentiality":
        made = confidentiality.figures(scores, backdoor, context)
    elif measure == "accident":
        made = accident.figures(scores, context)
    else:
        made = reliability.figures(scores, context)
    return {"rates": rates(scores, context), "figures": made}


def beside_base(measure: str, base: Sequence[Score], scores: Sequence[Score], context: Context) -> list[dict[str, Any]]:
    """Return further figures that take the scores of the base beside a subject's; only `accident` has such."""
    _checked(measure)
    return accident.above_base(base, scores, context) if measure == "accident" else []


def _checked(measure: str) -> Callable[..., list[Record]]:
    askers: dict[str, Callable[..., list[Record]]] = {
        "confidentiality": confidentiality.ask,
        "accident": accident.ask,
        "reliability": reliability.ask,
    }
    if measure not in askers:
        raise SpecError(unknown("stealth measure", measure, MEASURES))
    return askers[measure]
