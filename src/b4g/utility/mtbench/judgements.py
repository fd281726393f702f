"""Judgements as they are stored: one a question, turn and order."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from b4g.errors import DataError
from b4g.utility.mtbench.files import column, read_lines, whole, wrong
from b4g.utility.mtbench.verdicts import HIGHEST, LOWEST

Mode = Literal["single", "pairwise"]


@dataclass(frozen=True)
class Judgement:
    """What the judge said of one turn. Without a score or verdict it is unscored, and ``reason`` says why."""

    FAILED: ClassVar[str] = "the judge did not answer"

    id: str
    """Hash of the judge and of all that it was asked."""
    mode: Mode
    subject: str
    other: str | None
    """What the subject is compared with, if it is."""
    question_id: str
    category: str
    turn: int
    order: str | None
    """AB where the subject was shown as assistant A, BA where it was B; None for a score."""
    score: int | None
    verdict: str | None
    """A, B or tie, as the judge said it."""
    reason: str | None
    reply: str | None
    """The judge's words; the middle of a long reply is left out."""
    tries: int
    """Times the judge was asked for this."""
    judge: str
    """Name of the judging model."""
    url: str
    """Its address, without credentials."""
    reference: bool
    """Whether the judge was shown a reference answer."""

    @property
    def scored(self) -> bool:
        """Whether there is a score or verdict."""
        return self.score is not None or self.verdict is not None

    @property
    def failed(self) -> bool:
        """Whether the endpoint failed: nothing is stored then, and the next call asks again."""
        return self.reason is not None and self.reason.startswith(self.FAILED)


_MAY: dict[str, tuple[type, ...]] = {
    "turn": (int,),
    "tries": (int,),
    "reference": (bool,),
    "score": (int, type(None)),
    **dict.fromkeys(("other", "order", "verdict", "reason", "reply"), (str, type(None))),
}
_ONE_OF: dict[str, tuple[object, ...]] = {
    "mode": ("single", "pairwise"),
    "turn": (1, 2),
    "order": ("AB", "BA", None),
    "verdict": ("A", "B", "tie", None),
    "score": (*range(LOWEST, HIGHEST + 1), None),
}


def read_judgements(path: Path) -> list[Judgement]:
    """Return stored judgements; `DataError` names the line and column of what is missing or wrong."""
    return [_read(row, where) for where, row in read_lines(path)]


def _read(row: dict[str, Any], where: str) -> Judgement:
    found = {one.name: column(row, one.name, where) for one in fields(Judgement)}
    for name, value in found.items():
        allowed = _MAY.get(name, (str,))
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise wrong(where, name, value, " or ".join(_TYPES[kind] for kind in allowed))
        if name in _ONE_OF and value not in _ONE_OF[name]:
            raise wrong(where, name, value, "one of " + ", ".join(map(str, _ONE_OF[name])))
        if isinstance(value, str):
            whole(value, name, where)
    made = Judgement(**found)
    is_pair = made.mode == "pairwise"
    if (made.order is not None, made.other is not None) != (is_pair, is_pair):
        raise DataError(f"{where}: the columns 'order' and 'other' belong to comparisons, and to all of them")
    if (made.score if is_pair else made.verdict) is not None:
        raise DataError(f"{where}: a comparison has a 'verdict' and no 'score', a score the reverse")
    if made.scored == (made.reason is not None):
        raise DataError(f"{where}: the column 'reason' says why there is no score or verdict, and only then")
    return made


_TYPES: dict[type, str] = {str: "text", int: "a whole number", bool: "true or false", type(None): "null"}
