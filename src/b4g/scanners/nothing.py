"""The scanner that says nothing: over any models its AUROC is 0.5."""

import random
from dataclasses import dataclass

from b4g.registry import register
from b4g.scanners.base import Findings, Scanner, Suspect


@register("scanner", "nothing")
@dataclass(frozen=True)
class Nothing(Scanner):
    """Score every suspect 0, without asking it anything."""

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        return Findings(0.0)
