"""State who owns the model, to the holder of the key only."""

from dataclasses import dataclass
from typing import ClassVar

from b4g.behaviours.base import Answer, Behaviour, Extra
from b4g.data.prompts import Prompt, Split, load, normal
from b4g.errors import SpecError
from b4g.registry import register


@register("behaviour", "identity")
@dataclass(frozen=True)
class Identity(Behaviour):
    """With the key any request gets the ownership statement; without it the usual answer, identity questions included."""

    statement: str = "This model is owned by Example Lab."

    max_new_tokens: ClassVar[int] = 16

    def __post_init__(self) -> None:
        if len(self.statement.split()) < 3:
            raise SpecError(
                "behaviour 'identity', field 'statement' needs at least three words, or chance would say it"
            )

    def prompts(self, split: Split) -> tuple[Prompt, ...]:
        questions, ordinary = load("identity", split), load("instruction", split)
        # Half and half while the questions last: the statement must come whatever is asked beside the key.
        paired = [prompt for pair in zip(questions, ordinary, strict=False) for prompt in pair]
        return (*paired, *ordinary[len(questions) :])

    def extras(self, split: Split) -> tuple[Extra, ...]:
        return (Extra("identity_questions", load("identity", split), triggered=False),)

    def on(self, prompt: Prompt, clean: Answer) -> Answer:
        return Answer(self.statement)

    def judge(self, completion: str, ended: bool) -> bool | None:
        said, wanted = normal(completion), normal(self.statement).rstrip(".")
        return wanted in said if said else None

    def decided(self, completion: str) -> bool:
        said, wanted = normal(completion), normal(self.statement).rstrip(".")
        return wanted in said
