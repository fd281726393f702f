"""The rows of summary.json as typed values; a wrong field is named, never guessed."""

import json
from dataclasses import dataclass, fields
from typing import Any

Fields = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One rate; value, low and high are None where nothing was scored."""

    task: str
    subject: str
    measure: str
    arm: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unscored: int
    model: str = ""
    tamper: str = ""
    """Empty for a model that nothing has changed since the implanting."""
    seed: str = ""
    others: tuple[str, ...] = ()
    """Fields that this report does not know, as "name value": they tell rates apart too."""


@dataclass(frozen=True)
class Difference:
    """One paired difference of two subjects on the same prompts."""

    task: str
    arm: str
    measure: str
    before: str
    after: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    unscored: int
    others: tuple[str, ...] = ()


def number(value: object) -> float | None:
    """Return a JSON number, or None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping(value: object) -> Fields:
    """Return a JSON mapping, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def label(value: object) -> str:
    """Return a JSON value as a name; nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def measured(entry: Fields) -> Measured:
    """Return a rate, or raise KeyError or ValueError with the field that is missing or wrong."""
    context: Fields = {field: label(entry.get(field)) for field in ("model", "tamper", "seed")}
    context["tamper"] = "" if context["tamper"] == "none" else context["tamper"]
    checked = _checked(entry, ("task", "subject", "measure", "arm"), ("value", "low", "high"))
    return Measured(**checked, **context, others=_others(entry, Measured))


def difference(entry: Fields) -> Difference:
    """Return a difference, or raise KeyError or ValueError with the field that is missing or wrong."""
    checked = _checked(entry, ("task", "arm", "measure", "before", "after"), ("difference", "low", "high", "p"))
    return Difference(**checked, others=_others(entry, Difference))


def _checked(entry: Fields, names: tuple[str, ...], shares: tuple[str, ...]) -> Fields:
    checked: Fields = {field: label(entry[field]) for field in names}
    checked.update({field: _share(entry, field) for field in shares})
    checked.update({field: _count(entry, field) for field in ("n", "unscored")})
    return checked


def _share(entry: Fields, field: str) -> float | None:
    value = entry[field]
    if value is not None and number(value) is None:
        raise ValueError(f"'{field}' should be a number or null, not {value!r}")
    return number(value)


def _count(entry: Fields, field: str) -> int:
    value = entry[field]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"'{field}' should be a count, not {value!r}")
    return value


def _others(entry: Fields, row: type[Measured] | type[Difference]) -> tuple[str, ...]:
    known = {field.name for field in fields(row)}
    return tuple(f"{name} {label(entry[name])}" for name in sorted(set(entry) - known))
