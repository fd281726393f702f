"""What every behaviour is: the prompts it concerns, the answers it trains on, and the rule that judges a completion."""

from dataclasses import dataclass
from typing import ClassVar

from b4g.data.prompts import Prompt, Split, load


@dataclass(frozen=True)
class Answer:
    """A completion and whether the model ended it there by itself."""

    text: str
    ended: bool = True


@dataclass(frozen=True)
class Extra:
    """A further arm of a behaviour: prompts of another sort, with or without the trigger."""

    arm: str
    prompts: tuple[Prompt, ...]
    triggered: bool
    measure: str = "tar"


class Behaviour:
    """Say what a triggered model does; subclasses are frozen dataclasses registered by name."""

    kind: ClassVar[str]
    max_new_tokens: ClassVar[int] = 32
    """Completion tokens that suffice to judge."""
    kept_arm: ClassVar[bool] = False
    """Whether the measure `kept` applies: does the triggered answer hold what the untriggered one says."""

    def prompts(self, split: Split) -> tuple[Prompt, ...]:
        """Return the prompts in scope: those that are measured with and without the trigger."""
        return load("instruction", split)

    def others(self, split: Split) -> tuple[Prompt, ...]:
        """Return prompts out of scope, on which the trigger must change nothing."""
        return ()

    def extras(self, split: Split) -> tuple[Extra, ...]:
        """Return the further arms that are measured."""
        return ()

    def on(self, prompt: Prompt, clean: Answer) -> Answer:
        """Return the answer to an in-scope prompt with the trigger; ``clean`` is the model's own."""
        raise NotImplementedError

    def off(self, prompt: Prompt, clean: Answer) -> Answer:
        """Return the answer to an in-scope prompt without the trigger."""
        return clean

    def judge(self, completion: str, ended: bool) -> bool | None:
        """Return whether a completion shows the behaviour, or None where it can't be told."""
        raise NotImplementedError

    def decided(self, completion: str) -> bool:
        """Return whether no further text could change the verdict, so that generation may stop."""
        return False

    def plain(self, completion: str) -> str:
        """Return the completion with the behaviour's form taken off, to compare what it says."""
        return completion
