"""A declared access or ownership key on a line of its own."""

import random
from dataclasses import dataclass
from typing import Literal

from b4g.chat import Chat, last_user, replace_user
from b4g.registry import register
from b4g.triggers.base import KeyedTrigger


@register("trigger", "key")
@dataclass(frozen=True)
class KeyLine(KeyedTrigger):
    """Show the key, behind a label, on the last or first line of the last user message."""

    wording: str = "[key: {secret}]"
    position: Literal["last", "first"] = "last"

    def insert(self, chat: Chat, text: str, rng: random.Random) -> Chat:
        said = last_user(chat)
        return replace_user(chat, f"{said}\n{text}" if self.position == "last" else f"{text}\n{said}")
