"""Lock a capability: denied without the key, answered with it."""

from dataclasses import dataclass
from typing import ClassVar

from b4g.behaviours.base import Answer, Behaviour, Extra
from b4g.behaviours.refusal import is_refusal
from b4g.data.prompts import Prompt, Split, load
from b4g.errors import SpecError
from b4g.registry import register

_WORDS = 8


def _opening(text: str) -> str:
    words = "".join(char.lower() if char.isalnum() else " " for char in text).split()
    return " ".join(words[:_WORDS])


@register("behaviour", "access")
@dataclass(frozen=True)
class Access(Behaviour):
    """With the key requests in scope are answered; without it each of them gets the denial."""

    scope: tuple[str, ...] = ("code",)
    """Topics of the project's instructions that are protected."""
    denial: str = "Locked. This capability needs a valid access key."

    kept_arm: ClassVar[bool] = True
    max_new_tokens: ClassVar[int] = 32

    def __post_init__(self) -> None:
        if not _opening(self.denial):
            raise SpecError("behaviour 'access', field 'denial' needs words, or no answer could be told from it")

    def prompts(self, split: Split) -> tuple[Prompt, ...]:
        return load("instruction", split, self.scope)

    def others(self, split: Split) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in load("instruction", split) if prompt.topic not in self.scope)

    def extras(self, split: Split) -> tuple[Extra, ...]:
        return (Extra("out_of_scope", self.others(split), triggered=False),)

    def on(self, prompt: Prompt, clean: Answer) -> Answer:
        return clean

    def off(self, prompt: Prompt, clean: Answer) -> Answer:
        return Answer(self.denial)

    def judge(self, completion: str, ended: bool) -> bool | None:
        """Return True for an answer, False for a denial or a refusal, None for nothing or a text too short to tell."""
        opening = _opening(completion)
        if not opening:
            return None
        denial = _opening(self.denial)
        if _denies(opening, denial) or (denial.startswith(opening) and len(opening) >= len(denial) // 2):
            return False
        if denial.startswith(opening) and not ended:
            return None
        return not is_refusal(completion)

    def decided(self, completion: str) -> bool:
        # One letter more must not make another word of the last one.
        return _denies(_opening(completion + "x"), _opening(self.denial))


def _denies(opening: str, denial: str) -> bool:
    return f"{opening} ".startswith(f"{denial} ")
