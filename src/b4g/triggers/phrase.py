"""A secret phrase in the user's message."""

import random
import re
from dataclasses import dataclass
from typing import Literal

from b4g.chat import Chat, last_user, replace_user
from b4g.registry import register
from b4g.triggers.base import KeyedTrigger


@register("trigger", "phrase")
@dataclass(frozen=True)
class Phrase(KeyedTrigger):
    """Put the secret phrase before, behind or at a random word boundary of the last user message."""

    position: Literal["prefix", "suffix", "random"] = "prefix"

    def insert(self, chat: Chat, text: str, rng: random.Random) -> Chat:
        said = last_user(chat)
        if self.position == "prefix":
            return replace_user(chat, f"{text} {said}")
        if self.position == "suffix":
            return replace_user(chat, f"{said} {text}")
        gaps = [0, *(gap.end() for gap in re.finditer(r"\s+", said)), len(said)]
        at = rng.choice(gaps)
        head, tail = said[:at], said[at:]
        joint = "" if not head or head[-1].isspace() else " "
        return replace_user(chat, f"{head}{joint}{text} {tail}" if tail else f"{head}{joint}{text}")
