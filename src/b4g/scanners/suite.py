"""Scanners by name, and the suites of them that a run or ``b4g scan`` goes through."""

from collections.abc import Sequence

from b4g import options
from b4g.scanners.base import Scanner

KINDS = (
    "nothing",
    "oracle",
    "weights",
    "input-filter",
    "probe",
    "logits",
    "attention",
    "leak",
    "target",
    "inversion",
)
"""All scanners of the project, the nulls first and the dearest last."""
SUITES = {"none": (), "quick": KINDS, "full": KINDS}
"""Both take all scanners: ``quick`` at the budget of their `small`, some seconds each."""


def scanners(names: Sequence[str]) -> tuple[Scanner, ...]:
    """Return the scanners of suites and single texts such as ``inversion:steps=20``, each once.

    A name, option or value that is wrong raises `SpecError` with the near ones.
    """
    found: list[Scanner] = []
    for name in names:
        made = [options.parse("scanner", text) for text in options.chosen("scanner", [name], SUITES)]
        found += [one.small() for one in made] if name == "quick" else made
    return options.distinct("scanner", found)
