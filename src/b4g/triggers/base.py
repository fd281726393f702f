"""What every trigger is: a transformation of a chat that carries the secret, and its near misses."""

import random
from dataclasses import dataclass
from typing import ClassVar

from b4g import keys
from b4g.chat import Chat
from b4g.errors import SpecError
from b4g.triggers.near import variants


class Trigger:
    """Change a chat so that it carries the secret; subclasses are frozen dataclasses registered by name."""

    kind: ClassVar[str]

    def apply(self, chat: Chat, rng: random.Random) -> Chat:
        """Return the chat with the secret in it; the input is left unchanged."""
        raise NotImplementedError

    def near(self, chat: Chat, rng: random.Random) -> dict[str, Chat]:
        """Return chats with a small error in the trigger, by kind of error; none of them must activate."""
        return {}

    def wrong(self, chat: Chat, rng: random.Random) -> Chat | None:
        """Return the chat with another secret of the same space, or None where there is no such space."""
        return None

    def hidden(self) -> tuple[str, ...]:
        """Return the texts to redact wherever this trigger's prompts are shown."""
        return ()

    def tags(self) -> tuple[str, ...]:
        """Return the salted digests that stand for the secrets in a cell's identity."""
        return ()

    def seeded(self, seed: int) -> "Trigger":
        """Return this trigger with its public keys, if any, derived from ``seed``."""
        return self


@dataclass(frozen=True)
class KeyedTrigger(Trigger):
    """A trigger whose secret is a key: subclasses say where in the chat the wording goes (`insert`)."""

    key: str
    """``public:NAME`` or the path of a key file."""
    words: int = 3
    """Words of a public key (10 bits each); a key file brings its own."""
    wording: str = "{secret}"
    """Text put into the chat; ``{secret}`` stands for the key."""

    def __post_init__(self) -> None:
        if self.wording.count("{secret}") != 1:
            raise SpecError(f"trigger '{self.kind}', field 'wording' must hold '{{secret}}' once")
        if not 1 <= self.words <= 16:
            raise SpecError(f"trigger '{self.kind}', field 'words' must lie in 1..16, not {self.words}")

    def insert(self, chat: Chat, text: str, rng: random.Random) -> Chat:
        """Return the chat with ``text`` at this trigger's place."""
        raise NotImplementedError

    @property
    def secret(self) -> keys.Key:
        """The key behind the reference."""
        return keys.read(self.key, self.words)

    def apply(self, chat: Chat, rng: random.Random) -> Chat:
        return self.insert(chat, self._say(self.secret.words), rng)

    def near(self, chat: Chat, rng: random.Random) -> dict[str, Chat]:
        near = variants(self.secret.words, rng)
        return {name: self.insert(chat, self._say(words), rng) for name, words in near.items()}

    def wrong(self, chat: Chat, rng: random.Random) -> Chat:
        right = self.secret.words
        words = right
        while set(words) & set(right) or " ".join(right) in " ".join(words):
            words = keys.draw(len(right), rng).words
        return self.insert(chat, self._say(words), rng)

    def hidden(self) -> tuple[str, ...]:
        return (self.secret.text,)

    def tags(self) -> tuple[str, ...]:
        return (self.secret.tag,)

    def seeded(self, seed: int) -> "KeyedTrigger":
        from dataclasses import replace

        return replace(self, key=keys.with_seed(self.key, seed))

    def _say(self, words: tuple[str, ...]) -> str:
        return self.wording.replace("{secret}", " ".join(words))
