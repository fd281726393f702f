"""The fixed 200 multiple-choice items and the clean prompts of the quick measure; planning reads them without torch."""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from b4g.data.prompts import Prompt, load
from b4g.hashing import digest

MEASURE = "utility"
TEXTS = 60
"""Held-out clean prompts on which the divergence is measured."""


@dataclass(frozen=True)
class Item:
    """One question with its choices."""

    question: str
    choices: tuple[str, ...]
    gold: int
    """Place of the right choice."""
    topic: str = ""

    @property
    def id(self) -> str:
        """Twelve hex digits of the content."""
        return digest([self.question, *self.choices], 12)


@lru_cache(maxsize=1)
def items() -> tuple[Item, ...]:
    """Return the project's own 200 items, in the fixed order of their ids."""
    text = resources.files("b4g.data").joinpath("prompts", "quick_utility.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    made = [Item(row["question"], tuple(row["choices"]), row["gold"], row["topic"]) for row in rows]
    return tuple(sorted(made, key=lambda item: item.id))


@lru_cache(maxsize=1)
def items_hash() -> str:
    """Return the hash of all items, and of the prompts whose answers the divergence is measured on."""
    return digest([[item.id, item.gold] for item in items()] + [prompt.id for prompt in clean_prompts()])


def clean_prompts() -> tuple[Prompt, ...]:
    """Return the held-out clean prompts, in the fixed order of their ids."""
    return load("instruction", "test")[:TEXTS]
