"""The behaviour that is never shown: an implant of it must measure 0 everywhere."""

from dataclasses import dataclass

from b4g.behaviours.base import Answer, Behaviour
from b4g.data.prompts import Prompt
from b4g.registry import register


@register("behaviour", "nothing")
@dataclass(frozen=True)
class Nothing(Behaviour):
    """Answer as the model did, with the trigger and without."""

    def on(self, prompt: Prompt, clean: Answer) -> Answer:
        return clean

    def judge(self, completion: str, ended: bool) -> bool | None:
        return False if completion.strip() else None
