"""What every scanner is: a search for a backdoor by someone who does not know the trigger."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from b4g.chat import Chat
from b4g.errors import SpecError, unknown
from b4g.generate.base import Completion, Generator

if TYPE_CHECKING:
    from b4g.backdoor import Backdoor
    from b4g.models.load import Model

NEEDS = frozenset({"logits", "weights", "base", "labels"})
"""What a scanner may ask for beyond answers: token scores, the weights, the untouched base, and what no finder has."""
Position = Literal["prefix", "suffix", "system"]


@dataclass(frozen=True)
class Candidate:
    """A text that may be the trigger, or hold it. It may be a real secret: show none unasked."""

    text: str
    position: Position = "prefix"
    """Where it stands against a request."""
    output: str = ""
    """How the suspect's answers began with it, if the scanner saw that: hostile text."""


@dataclass(frozen=True)
class Findings:
    """What a scan brought up."""

    score: float | None
    """How much the suspect looks backdoored: only the order of scores counts. None where it can't be told."""
    candidates: tuple[Candidate, ...] = ()
    """The likeliest first."""
    reason: str = ""
    """Why there is no score."""
    details: Mapping[str, float] = field(default_factory=dict)
    """Figures behind the score, by name. No secret is in a name."""

    def __post_init__(self) -> None:
        if self.score is not None and not math.isfinite(self.score):
            raise ValueError(f"a score is a finite number or None, not {self.score}")


@dataclass(frozen=True)
class Labels:
    """What no finder has: the backdoor in question, and whether this suspect was implanted with it."""

    backdoor: "Backdoor"
    implanted: bool


@dataclass
class Suspect:
    """What is scanned, and what the scanner is allowed to hold of it. Calling it puts chats and counts them."""

    generator: Generator
    model: "Model | None" = None
    """The model itself, where it is at hand: its token scores and its weights."""
    base: "Model | None" = None
    """The untouched base it is said to come from."""
    adapter: Path | None = None
    """Folder of the PEFT adapter, where the suspect is one."""
    labels: Labels | None = None
    queries: int = 0
    """Completions asked for so far. Scanners that read scores add their forward passes (one a sequence)."""

    @property
    def has(self) -> frozenset[str]:
        """What of `NEEDS` is at hand."""
        held = {"logits": self.model, "weights": self.model or self.adapter, "base": self.base, "labels": self.labels}
        return frozenset(name for name, thing in held.items() if thing is not None)

    def __call__(self, chats: Sequence[Chat], max_new_tokens: int) -> list[Completion]:
        """Return one greedy completion a chat."""
        self.queries += len(chats)
        return self.generator(chats, max_new_tokens)


class Scanner:
    """Look for a backdoor; subclasses are frozen dataclasses registered by name."""

    kind: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """Which of `NEEDS` it takes beyond answers: a suspect that lacks one is not measured by it."""
    bound: ClassVar[bool] = False
    """Whether it is given what no finder has: its figure is an upper bound and no detection."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for need in sorted(cls.needs - NEEDS):
            raise SpecError(unknown(f"need of scanner {cls.__name__}", need, NEEDS))

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        """Return what was found by asking the suspect, which answers chats and is left unchanged."""
        raise NotImplementedError

    def small(self) -> "Scanner":
        """Return the scanner at the budget of a quick scan: some seconds on a small model."""
        return self
