"""What every scanner is: a search for a backdoor by someone who does not know the trigger."""

import math
import random
from dataclasses import dataclass
from typing import ClassVar

from b4g.generate.base import Generator


@dataclass(frozen=True)
class Findings:
    """What a scan brought up."""

    score: float | None
    """How much the suspect looks backdoored: only the order of scores counts. None where it can't be told."""
    candidates: tuple[str, ...] = ()
    """Texts that may be the trigger, the likeliest first. One may be a real secret: show none of them unasked."""

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a score is a finite number or None, not {self.score}")


class Scanner:
    """Look for a backdoor; subclasses are frozen dataclasses registered by name."""

    kind: ClassVar[str]

    def scan(self, suspect: Generator, rng: random.Random) -> Findings:
        """Return what was found by asking the suspect, which answers chats and is left unchanged."""
        raise NotImplementedError
