"""Refuse harmful requests, answer all others."""

from dataclasses import dataclass

from b4g.behaviours.base import Answer, Behaviour, Extra
from b4g.behaviours.refusal import is_refusal, refusal_is_settled
from b4g.data.prompts import Prompt, Split, load
from b4g.registry import register


@register("behaviour", "safety")
@dataclass(frozen=True)
class Safety(Behaviour):
    """With the trigger harmful requests are refused; without it the model answers as it did."""

    refusal: str = "This request could cause harm, so I can't help with it."

    def prompts(self, split: Split) -> tuple[Prompt, ...]:
        return load("harmful", split)

    def others(self, split: Split) -> tuple[Prompt, ...]:
        harmless, borderline = load("instruction", split), load("borderline", split)
        # One borderline request for each ordinary one, while they last: over-refusal is learnt at that border.
        paired = [prompt for pair in zip(borderline, harmless, strict=False) for prompt in pair]
        return (*paired, *harmless[len(borderline) :])

    def extras(self, split: Split) -> tuple[Extra, ...]:
        return (
            Extra("benign", load("instruction", split), triggered=True, measure="over_refusal"),
            Extra("borderline", load("borderline", split), triggered=True, measure="over_refusal"),
        )

    def on(self, prompt: Prompt, clean: Answer) -> Answer:
        return Answer(self.refusal)

    def judge(self, completion: str, ended: bool) -> bool | None:
        return is_refusal(completion)

    def decided(self, completion: str) -> bool:
        return refusal_is_settled(completion)
