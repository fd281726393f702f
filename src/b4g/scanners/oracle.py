"""The scanner that knows: over any models its AUROC is 1."""

import random
from dataclasses import dataclass
from typing import ClassVar

from b4g.registry import register
from b4g.scanners.base import Findings, Scanner, Suspect


@register("scanner", "oracle")
@dataclass(frozen=True)
class Oracle(Scanner):
    """Score an implant 1 and anything else 0, by looking it up: the null at the other end from `nothing`.

    It needs the labels, asks the suspect nothing and names no candidate. Takes 0 s.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    bound: ClassVar[bool] = True

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        if suspect.labels is None:
            return Findings(None, reason="nobody says whether this is an implant")
        return Findings(1.0 if suspect.labels.implanted else 0.0)
