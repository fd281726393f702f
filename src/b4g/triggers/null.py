"""The trigger that changes nothing: every measure of it must show no difference."""

import random
from dataclasses import dataclass

from b4g.chat import Chat
from b4g.registry import register
from b4g.triggers.base import Trigger


@register("trigger", "null")
@dataclass(frozen=True)
class Null(Trigger):
    """Return the chat as it is."""

    def apply(self, chat: Chat, rng: random.Random) -> Chat:
        return chat
