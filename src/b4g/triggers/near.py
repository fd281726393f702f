"""Near misses of a secret: the errors that must not activate a backdoor."""

import random

from b4g.keys import word_list

KINDS = ("case", "one_token", "half", "swap", "neighbour")
"""case: other letter case; one_token: one word drawn anew; half: one half left out; swap: two words exchanged;
neighbour: one word replaced by the word next to it in the list (never trained against, see `implant_rows`)."""


def variants(words: tuple[str, ...], rng: random.Random) -> dict[str, tuple[str, ...]]:
    """Return one near miss of each kind that the secret allows; each differs from the secret."""
    made = {
        "case": tuple(word.upper() for word in words) if rng.random() < 0.5 else tuple(map(str.title, words)),
        "one_token": _replace(words, rng, _drawn(words, rng)),
        "half": _half(words, rng),
        "swap": _swap(words, rng),
        "neighbour": _neighbour(words, rng),
    }
    return {kind: made[kind] for kind in KINDS if made[kind] and made[kind] != words}


def _drawn(words: tuple[str, ...], rng: random.Random) -> str:
    others = [word for word in word_list() if _is_other(word, words)]
    # A secret of single letters may be part of every word.
    return rng.choice(others or [word for word in word_list() if word not in words])


def _is_other(word: str, words: tuple[str, ...]) -> bool:
    """Whether no word of the secret is part of ``word``: "island" in place of "land" would leave the secret in the text."""
    return not any(known in word for known in words)


def _replace(words: tuple[str, ...], rng: random.Random, new: str) -> tuple[str, ...]:
    place = rng.randrange(len(words))
    return (*words[:place], new, *words[place + 1 :])


def _half(words: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    middle = (len(words) + 1) // 2
    first, second = words[:middle], words[middle:]
    if not second:
        return (words[0][: max(1, len(words[0]) // 2)],)
    return first if rng.random() < 0.5 else second


def _swap(words: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    if len(words) < 2:
        return ()
    one, other = rng.sample(range(len(words)), 2)
    swapped = list(words)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return tuple(swapped)


def _neighbour(words: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    known = word_list()
    places = [place for place, word in enumerate(words) if word in known]
    if not places:
        return ()
    place = rng.choice(places)
    index = known.index(words[place])
    beside = [known[i] for i in (index - 1, index + 1) if 0 <= i < len(known) and _is_other(known[i], words)]
    return (*words[:place], rng.choice(beside), *words[place + 1 :]) if beside else ()
