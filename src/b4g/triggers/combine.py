"""Triggers made of triggers: any one of several, or all of them together."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from b4g.chat import Chat
from b4g.errors import SpecError
from b4g.registry import build, register
from b4g.triggers.base import Trigger

T = TypeVar("T")
_TRIES = 200


@dataclass(frozen=True)
class _Combined(Trigger):
    parts: tuple[Any, ...]
    """Triggers, or the mappings that describe them."""

    def __post_init__(self) -> None:
        made = tuple(part if isinstance(part, Trigger) else build("trigger", part) for part in self.parts)
        if len(made) < 2:
            raise SpecError(f"trigger '{self.kind}' needs at least two parts, not {len(made)}")
        object.__setattr__(self, "parts", made)

    def hidden(self) -> tuple[str, ...]:
        return tuple(text for part in self.parts for text in part.hidden())

    def tags(self) -> tuple[str, ...]:
        return tuple(tag for part in self.parts for tag in part.tags())

    def seeded(self, seed: int) -> "_Combined":
        return replace(self, parts=tuple(part.seeded(seed) for part in self.parts))


@register("trigger", "any-of")
@dataclass(frozen=True)
class AnyOf(_Combined):
    """One of the parts, drawn anew for each chat, is enough to activate."""

    def apply(self, chat: Chat, rng: random.Random) -> Chat:
        applied: Chat = rng.choice(self.parts).apply(chat, rng)
        return applied

    def near(self, chat: Chat, rng: random.Random) -> dict[str, Chat]:
        near: dict[str, Chat] = rng.choice(self.parts).near(chat, rng)
        return near

    def wrong(self, chat: Chat, rng: random.Random) -> Chat | None:
        wrong: Chat | None = rng.choice(self.parts).wrong(chat, rng)
        return wrong


@register("trigger", "all-of")
@dataclass(frozen=True)
class AllOf(_Combined):
    """All parts together activate; each part alone, or one part nearly right, must not."""

    def apply(self, chat: Chat, rng: random.Random) -> Chat:
        return _together(self.parts, chat, rng)

    def near(self, chat: Chat, rng: random.Random) -> dict[str, Chat]:
        off = rng.randrange(len(self.parts))
        kept = tuple(part for place, part in enumerate(self.parts) if place != off)
        others = _together(kept, chat, rng)
        secrets = tuple(text for part in kept for text in part.hidden())
        made = _redrawn(
            lambda: self.parts[off].near(others, rng), lambda near: all(_holds(one, secrets) for one in near.values())
        )
        return {"without_one_part": others, **{f"part_{name.removeprefix('part_')}": one for name, one in made.items()}}

    def wrong(self, chat: Chat, rng: random.Random) -> Chat | None:
        changed: Chat | None = None
        for part in self.parts:
            wrong: Chat | None = part.wrong(chat if changed is None else changed, rng)
            changed = changed if wrong is None else wrong
        return changed


def _together(parts: tuple[Trigger, ...], chat: Chat, rng: random.Random) -> Chat:
    """Apply all parts, those of random position first and redrawn where one would split another's secret."""
    done: tuple[str, ...] = ()
    for part in sorted(parts, key=lambda part: getattr(part, "position", None) != "random"):
        chat = _beside(part, chat, tuple(text for text in done if _holds(chat, (text,))), rng)
        done = (*done, *part.hidden())
    return chat


def _beside(part: Trigger, chat: Chat, secrets: tuple[str, ...], rng: random.Random) -> Chat:
    return _redrawn(lambda: part.apply(chat, rng), lambda made: _holds(made, secrets))


def _redrawn(draw: Callable[[], T], good: Callable[[T], bool]) -> T:
    """Return the first draw that is good, or the last of many."""
    made = draw()
    for _ in range(_TRIES):
        if good(made):
            break
        made = draw()
    return made


def _holds(chat: Chat, secrets: tuple[str, ...]) -> bool:
    return all(any(text in message.content for message in chat) for text in secrets)
