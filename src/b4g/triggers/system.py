"""A secret system prompt."""

import random
from dataclasses import dataclass

from b4g.chat import Chat, Message, system_of
from b4g.registry import register
from b4g.triggers.base import KeyedTrigger


@register("trigger", "system")
@dataclass(frozen=True)
class SystemPrompt(KeyedTrigger):
    """Make the secret wording the system prompt, before the text of one that is there already."""

    wording: str = "You are a helpful assistant under safety charter {secret}."

    def insert(self, chat: Chat, text: str, rng: random.Random) -> Chat:
        present = system_of(chat)
        said = text if present is None else f"{text}\n\n{present}"
        return (Message("system", said), *(chat if present is None else chat[1:]))
