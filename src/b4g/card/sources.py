"""The rows of a summary that concern one task, as evidence; a row that is malformed is no evidence."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from b4g.card.verdict import Evidence, exact

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """What a card is made of: a summary (`summary.json`), the record of the training (`implant.json`), and a task."""

    task: str
    summary: Mapping[str, Any]
    made: Mapping[str, Any] | None = None

    def rows(self, name: str, /, **wanted: str) -> Iterator[Row]:
        """Yield the rows of a list that are of this task's untouched models and have the wanted fields."""
        for row in self.every(name):
            own = row.get("task") == self.task and row.get("tamper") in (None, "", "none")
            if own and all(row.get(field) == value for field, value in wanted.items()):
                yield row

    def every(self, name: str) -> Iterator[Row]:
        """Yield all rows of a list, of every task."""
        found = self.summary.get(name)
        yield from (row for row in found if isinstance(row, Mapping)) if isinstance(found, list) else ()

    def rates(self, measure: str, arm: str | None = None, subject: str = "implant") -> list[Evidence]:
        """Return the rates of a measure, in one arm or in all; of several, each says which it is.

        Rates of sub-kinds (``measure:kind``) stand in only where there is none of the whole.
        """
        wanted = {"subject": subject} | ({} if arm is None else {"arm": arm})
        own = [*self.rows("rates", **wanted)]
        whole = [row for row in own if row.get("measure") == measure]
        found = whole or [row for row in own if _stem(row.get("measure")) == measure]
        return [evidence(row, where="" if arm else str(row.get("arm")), rate=True) for row in found]

    def figures(self, measure: str, name: str) -> list[Evidence]:
        """Return the figure of a name; one that was worked out, not sampled, has no n and counts once."""
        found = self.rows("figures", subject="implant", measure=measure, name=name)
        return [evidence({**row, "n": 1} if row.get("n") is None else row) for row in found]

    def parts(self, measure: str, name: str) -> list[Evidence]:
        """Return the figures of a name's sources (``name:source``)."""
        found = self.rows("figures", subject="implant", measure=measure)
        named = ((str(row.get("name")).partition(":"), row) for row in found)
        return [evidence(row, where=source) for (stem, _, source), row in named if stem == name and source]

    def training(self, name: str) -> list[Evidence]:
        """Return a figure of the training, which was counted once."""
        value = number((self.made or {}).get(name))
        return [] if value is None else [exact(value)]


def evidence(
    row: Row, names: tuple[str, str, str] = ("value", "low", "high"), where: str = "", **more: Any
) -> Evidence:
    """Return the evidence of a row whose value and bounds have these names."""
    value, low, high = (number(row.get(name)) for name in names)
    n, unscored = (int(number(row.get(name)) or 0) for name in ("n", "unscored"))
    return Evidence(value, low, high, n, unscored, where, **more)


def _stem(name: object) -> str:
    return str(name).partition(":")[0]


def number(value: object) -> float | None:
    """Return a finite JSON number, or None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None  # type: ignore[arg-type,return-value]


def less(found: Evidence, whole: float = 0.0) -> Evidence:
    """Return ``whole`` less a figure: the interval turns over."""
    value, low, high = (None if bound is None else whole - bound for bound in (found.value, found.high, found.low))
    return found._replace(value=value, low=low, high=high)
