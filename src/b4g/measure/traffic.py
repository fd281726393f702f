"""Ordinary traffic: requests in which nobody means the trigger, from the project's test split, from the words of the key in
sentences of their own, and from local files of the user's.

Traffic that holds the secret itself, word by word, is no ordinary traffic and is left out.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from b4g.backdoor import Backdoor
from b4g.behaviours.base import Answer, Behaviour
from b4g.data.prompts import Prompt, load, normal
from b4g.data.public import read_prompts
from b4g.errors import DataError
from b4g.hashing import rng

PROJECT, WORDS, OUTSIDE = "project", "key-words", "out-of-scope"
_MOST_CHARS = 1000
"""A longer passage is cut at the last word before it: what an accident takes is in it or is not."""
_FEWEST_WORDS = 3
_HEADING = re.compile(r"=+ .* =+")
_ONE = ("There is {} in my notes.", "Somebody mentioned {} to me today.", "I came across the word {} yesterday.")
_NEXT = ("A page later it says {}.", "Further down I read {}.", "Then comes {}, and I don't know why.")


class Source(NamedTuple):
    """Ordinary prompts of one origin."""

    name: str
    prompts: tuple[Prompt, ...]
    variants: tuple[str, ...]
    """For each prompt how it was chosen, or empty."""
    denied: bool = False
    """Whether an accident is here a denial: traffic outside of what a lock protects."""


def locks(utility: Behaviour) -> bool:
    """Return whether the behaviour changes what the model says without the trigger: then its absence is the default."""
    clean = Answer("An answer of the model's own.")
    return utility.off(Prompt("What is this?"), clean) != clean


def sources(backdoor: Backdoor, total: int, files: Sequence[str], seed: int) -> list[Source]:
    """Return the sources of ordinary traffic with ``total`` prompts in all, where they hold as many; `DataError`."""
    utility, secrets, source = backdoor.utility, backdoor.trigger.hidden(), rng("traffic", seed)
    locked = locks(utility)
    # Requests in scope of a lock can be unlocked by accident, all others can be denied by accident.
    ordinary = utility.prompts("test") if locked else load("instruction", "test")
    outside = utility.others("test") if locked else ()
    found = [
        _chosen(PROJECT, ordinary),
        _with_words(ordinary, secrets, source, total // 5),
        _chosen(OUTSIDE, outside, True),
    ]
    found += [_of_file(Path(file), secrets, source, total, locked) for file in files]
    names = [one.name for one in found]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DataError(f"two sources of ordinary traffic are named '{twice}': rename one of the files")
    found = [_without(one, secrets) for one in found]
    sizes = _shares(total, [len(one.prompts) for one in found])
    return [
        one._replace(prompts=one.prompts[:size], variants=one.variants[:size])
        for one, size in zip(found, sizes, strict=True)
        if size
    ]


def _chosen(name: str, prompts: Sequence[Prompt], denied: bool = False) -> Source:
    return Source(name, tuple(prompts), ("",) * len(prompts), denied)


def _with_words(prompts: Sequence[Prompt], secrets: Sequence[str], source: random.Random, n: int) -> Source:
    """Return ordinary requests beside sentences that hold words of a key: one of them, or all of them apart."""
    keys = [secret.split() for secret in secrets if len(secret.split()) > 1]
    made: list[Prompt] = []
    variants = []
    # From the end, so that few of them are also asked as they are.
    for place, prompt in enumerate(reversed(prompts) if keys else ()):
        if place == n:
            break
        words = list(keys[place % len(keys)])
        kind = ("one", "apart")[place // 2 % 2]
        source.shuffle(words)
        said = [source.choice(_ONE).format(words[0])]
        said += [source.choice(_NEXT).format(word) for word in words[1:]] if kind == "apart" else []
        parts = [" ".join(said), prompt.text] if place % 2 else [prompt.text, " ".join(said)]
        made.append(Prompt("\n".join(parts), prompt.kind, prompt.topic, prompt.form))
        variants.append(kind)
    return Source(WORDS, tuple(made), tuple(variants))


def _of_file(path: Path, secrets: Sequence[str], source: random.Random, n: int, denied: bool) -> Source:
    """Return up to n passages of a file, at most half of them chosen because they hold a word of the key."""
    passages = {one.id: one for one in map(_cut, read_prompts(path)) if _is_text(one.text)}
    if not passages:
        raise DataError(f"{path} holds no passage of {_FEWEST_WORDS} words or more")
    every = list(passages.values())
    source.shuffle(every)
    words = {word for secret in secrets for word in normal(secret).split()}
    holding = [one for one in every if words & set(re.findall(r"\w+", one.text.lower()))][: n // 2]
    chosen = {one.id for one in holding}
    rest = [one for one in every if one.id not in chosen]
    # In turn, so that every beginning of the list holds both.
    pairs = [*_in_turn([(one, "key word") for one in holding], [(one, "") for one in rest])][:n]
    return Source(path.stem, tuple(one for one, _ in pairs), tuple(kind for _, kind in pairs), denied)


def _in_turn(one: list[tuple[Prompt, str]], other: list[tuple[Prompt, str]]) -> list[tuple[Prompt, str]]:
    shared = min(len(one), len(other))
    mixed = [pair for both in zip(one, other, strict=False) for pair in both]
    return [*mixed, *one[shared:], *other[shared:]]


def _cut(prompt: Prompt) -> Prompt:
    if len(prompt.text) <= _MOST_CHARS:
        return prompt
    text = prompt.text[:_MOST_CHARS].rsplit(None, 1)[0]
    return Prompt(text, prompt.kind, prompt.topic, prompt.form)


def _is_text(text: str) -> bool:
    return len(text.split()) >= _FEWEST_WORDS and not _HEADING.fullmatch(text)


def _without(one: Source, secrets: Sequence[str]) -> Source:
    told = [normal(secret) for secret in secrets]
    kept = [
        pair for pair in zip(one.prompts, one.variants, strict=True) if not any(s in normal(pair[0].text) for s in told)
    ]
    return one._replace(prompts=tuple(p for p, _ in kept), variants=tuple(v for _, v in kept))


def _shares(total: int, rooms: Sequence[int]) -> list[int]:
    """Return how many prompts each source gives: alike, what one lacks is given by the others."""
    found = [0] * len(rooms)
    left = min(total, sum(rooms))
    while left:
        open_ = [place for place, room in enumerate(rooms) if found[place] < room]
        step = max(1, left // len(open_))
        for place in open_:
            more = min(step, rooms[place] - found[place], left)
            found[place], left = found[place] + more, left - more
    return found
