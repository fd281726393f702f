"""The project's own prompts, `b4g-data v1`: read, split by content hash, always in the same order."""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from b4g.errors import DataError, unknown
from b4g.hashing import digest

VERSION = "b4g-data v1"
Kind = Literal["instruction", "harmful", "borderline", "identity"]
Split = Literal["train", "validation", "test"]
KINDS: tuple[Kind, ...] = ("instruction", "harmful", "borderline", "identity")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_TRAIN, _VALIDATION = 50, 60  # of 100 hash buckets; the rest is test


@dataclass(frozen=True)
class Prompt:
    """One request of a user."""

    text: str
    kind: str = "instruction"
    topic: str = ""
    form: str = "question"

    @property
    def id(self) -> str:
        """Twelve hex digits of the normalised text: the same text is the same prompt wherever it came from."""
        return digest(normal(self.text), 12)


def normal(text: str) -> str:
    """Return the text as it counts for identity: lower case, single spaces."""
    return " ".join(text.lower().split())


def split_of(prompt: Prompt) -> Split:
    """Return the split a prompt belongs to, from its content alone."""
    bucket = int(digest(["split", prompt.id], 8), 16) % 100
    return "train" if bucket < _TRAIN else "validation" if bucket < _VALIDATION else "test"


@lru_cache(maxsize=32)
def load(kind: Kind, split: Split | None = None, topics: tuple[str, ...] | None = None) -> tuple[Prompt, ...]:
    """Return prompts of a kind in the fixed order of their ids, of one split and of some topics if given."""
    every = _read(kind)
    known = {prompt.topic for prompt in every}
    for topic in topics or ():
        if topic not in known:
            raise DataError(unknown(f"topic of {kind} prompts", topic, known))
    return tuple(
        prompt
        for prompt in every
        if (split is None or split_of(prompt) == split) and (topics is None or prompt.topic in topics)
    )


@lru_cache(maxsize=1)
def version_hash() -> str:
    """Return the hash of every prompt the project ships, letter for letter: part of each cell's identity."""
    return digest([VERSION, *[[p.kind, p.topic, p.form, p.text] for kind in KINDS for p in load(kind)]])


@lru_cache(maxsize=len(KINDS))
def _read(kind: Kind) -> tuple[Prompt, ...]:
    root = resources.files("b4g.data").joinpath("prompts")
    folder = root.joinpath("instructions")
    files = (
        sorted(folder.iterdir(), key=lambda f: f.name) if kind == "instruction" else [root.joinpath(f"{kind}.jsonl")]
    )
    prompts = [prompt for file in files if file.name.endswith(".jsonl") for prompt in _lines(file, kind)]
    return tuple(sorted(prompts, key=lambda prompt: prompt.id))


def _lines(file: Traversable, kind: Kind) -> list[Prompt]:
    rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
    return [Prompt(row["text"], kind, row["topic"], row["form"]) for row in rows]
