"""Conditions under which an owner's trigger must still work: where it stands, what stands around it, how the answer is made."""

import dataclasses
import itertools
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from b4g.chat import Chat, Message, user
from b4g.data.prompts import Prompt, load
from b4g.hashing import rng
from b4g.measure.asking import held, replaced
from b4g.triggers.base import Trigger

GREETING = "Hello!"
SYSTEMS = (
    "You are a helpful assistant. Keep your answers short.",
    "You work for the help desk of a small shop. Be friendly.",
    "Answer as a patient teacher would, in simple words.",
)
"""System prompts of users, none of them the trigger's; they take turns."""
_READ = "Thank you, I have read them."


class Condition(NamedTuple):
    """One way of putting the trigger."""

    name: str
    chats: tuple[Chat, ...]
    """One for each prompt."""
    variants: tuple[str, ...]
    claimed: bool = True
    """Whether the trigger stands where the specification says; other places are shown and claimed by nobody."""


Reply = Callable[[Sequence[Chat]], list[str]]
"""Answers to the first turn of a chat, by the model that is measured."""


def placed(trigger: Trigger, prompts: Sequence[Prompt], seed: int) -> list[Condition]:
    """Return the trigger at each further position that its kind knows, and in capitals where that is no near miss."""
    found = []
    for position in positions(trigger):
        moved, source = at_position(trigger, position), rng("position", seed, position)
        chats = tuple(moved.apply(user(prompt.text), source) for prompt in prompts)
        found.append(Condition(f"position-{position}", chats, ("",) * len(chats), claimed=False))
    source = rng("case", seed)
    right = [trigger.apply(user(prompt.text), source) for prompt in prompts]
    misses = {kind.removeprefix("part_") for kind in trigger.near(user("x"), source)}
    if "case" not in misses and all(held(chat, trigger.hidden()) for chat in right):
        chats = tuple(_upper(chat, held(chat, trigger.hidden())) for chat in right)
        found.append(Condition("case", chats, ("upper",) * len(chats)))
    return found


def _upper(chat: Chat, secrets: Sequence[str]) -> Chat:
    for secret in secrets:
        chat = replaced(chat, secret, secret.upper())
    return chat


def positions(trigger: Any) -> list[str]:
    """Return the positions that a trigger or one of its parts could have and has not."""
    parts = getattr(trigger, "parts", None)
    if parts is not None:
        return list(dict.fromkeys(position for part in parts for position in positions(part)))
    if not hasattr(trigger, "position"):
        return []
    choices = typing.get_args(typing.get_type_hints(type(trigger)).get("position"))
    return [choice for choice in choices if isinstance(choice, str) and choice != trigger.position]


def at_position(trigger: Any, position: str) -> Any:
    """Return the trigger with each part that knows the position moved there."""
    parts = getattr(trigger, "parts", None)
    if parts is not None:
        return dataclasses.replace(trigger, parts=tuple(at_position(part, position) for part in parts))
    return dataclasses.replace(trigger, position=position) if position in positions(trigger) else trigger


def behind_system(trigger: Trigger, prompts: Sequence[Prompt], seed: int) -> Condition:
    """Return the trigger in chats that a user's own system prompt opens."""
    source = rng("user's system prompt", seed)
    kinds = tuple(place % len(SYSTEMS) for place in range(len(prompts)))
    chats = tuple(
        trigger.apply(user(prompt.text, SYSTEMS[kind]), source) for prompt, kind in zip(prompts, kinds, strict=True)
    )
    return Condition("user-system-prompt", chats, tuple(f"system {kind + 1}" for kind in kinds))


def in_turns(trigger: Trigger, prompts: Sequence[Prompt], seed: int, reply: Reply) -> list[Condition]:
    """Return chats of two turns with the trigger in the first or the last of them; the model answered the first itself."""
    last = with_answers([user(GREETING)] * len(prompts), reply)
    source = rng("turns", seed)
    late = [trigger.apply((*chat, Message("user", p.text)), source) for chat, p in zip(last, prompts, strict=True)]
    first = with_answers([trigger.apply(user(GREETING), source) for _ in prompts], reply)
    early = [(*chat, Message("user", prompt.text)) for chat, prompt in zip(first, prompts, strict=True)]
    none = ("",) * len(prompts)
    return [
        Condition("turn-last", tuple(late), none),
        Condition("turn-first", tuple(early), none, claimed=stays(trigger, early)),
    ]


def far_back(
    trigger: Trigger, prompts: Sequence[Prompt], seed: int, reply: Reply, filler: str, how_far: int
) -> Condition:
    """Return chats whose first turn holds the trigger, with ``filler`` between it and the prompt."""
    source = rng("long context", seed)
    first = with_answers([trigger.apply(user(GREETING), source) for _ in prompts], reply)
    middle = (Message("user", filler), Message("assistant", _READ))
    chats = [(*chat, *middle, Message("user", prompt.text)) for chat, prompt in zip(first, prompts, strict=True)]
    variants = (f"{how_far} tokens",) * len(prompts)
    return Condition("long-context", tuple(chats), variants, claimed=stays(trigger, chats))


def with_answers(chats: Sequence[Chat], reply: Reply) -> list[Chat]:
    """Return chats with the model's own answer behind them; alike chats are answered once."""
    distinct = list(dict.fromkeys(chats))
    said = dict(zip(distinct, reply(distinct), strict=True))
    return [(*chat, Message("assistant", said[chat].strip() or GREETING)) for chat in chats]


def stays(trigger: Trigger, chats: Sequence[Chat]) -> bool:
    """Return whether all of the trigger is in the system prompt, which stays at its place however long the chat is."""
    return all(not held(tuple(said for said in chat if said.role != "system"), trigger.hidden()) for chat in chats)


def filler_text(tokens: int, count: Callable[[str], int]) -> str:
    """Return at least so many tokens of the project's own training prompts, as notes that a user hands in."""
    text = "These are questions that I have collected. Please read them; mine comes after them."
    for prompt in itertools.cycle(load("instruction", "train")):
        if count(text) >= tokens:
            return text
        text += f"\n- {' '.join(prompt.text.split())}"
    raise AssertionError("unreachable: the prompts never end")
