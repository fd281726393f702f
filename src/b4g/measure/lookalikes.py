"""Texts that resemble a secret: typing errors, letters of other scripts that look alike, words of like meaning.

A text in which the secret still stands, as one with a letter put behind it, is the secret and no near miss: none such is made.
"""

import random
from collections.abc import Callable
from functools import lru_cache
from importlib import resources

from b4g.keys import word_list

EDITS = (1, 2, 3)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TRIES = 200
_CYRILLIC = str.maketrans("aceopsxyijhkABCEHKMOPTX", "асеорѕхуіјһкАВСЕНКМОРТХ")
_GREEK = str.maketrans("aoviuptkABEHIKMNOPTXYZ", "αονιυρτκΑΒΕΗΙΚΜΝΟΡΤΧΥΖ")
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
SCRIPTS = {"cyrillic": _CYRILLIC, "greek": _GREEK, "full-width": _WIDE}
"""Letters that a reader takes for Latin ones (confusables, Unicode TS 39), by script."""


def attempts(secret: str, rng: random.Random) -> dict[str, dict[str, str]]:
    """Return texts near a secret by arm and sub-kind; an arm that this secret does not allow is left out."""
    words = secret.split()
    found: dict[str, dict[str, str | None]] = {f"edit-{size}": {"": edited(secret, size, rng)} for size in EDITS}
    found["half"] = {"dropped": _dropped(words, rng)}
    found["look-alike"] = {script: look_alike(words, script, rng) for script in SCRIPTS}
    found["synonym"] = {"": _synonym(words, rng)}
    good = {
        arm: {kind: text for kind, text in kinds.items() if text and secret not in text} for arm, kinds in found.items()
    }
    return {arm: kinds for arm, kinds in good.items() if kinds}


def distance(one: str, other: str) -> int:
    """Return how many letters must be put in, left out or changed to make one text of the other (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right)))
    return row[-1]


def edited(secret: str, size: int, rng: random.Random) -> str | None:
    """Return the secret with exactly ``size`` typing errors in its letters, or None where it is too short for them."""

    def draw() -> str:
        text = secret
        for _ in range(size):
            at = rng.choice([place for place, char in enumerate(text) if not char.isspace()] or [0])
            put = rng.choice(_LETTERS)
            text = text[:at] + rng.choice((put, "", put + text[at : at + 1])) + text[at + 1 :]
        return text

    return _first(draw, lambda text: distance(secret, text) == size and secret not in text and bool(text.strip()))


def look_alike(words: list[str], script: str, rng: random.Random) -> str | None:
    """Return the words with one of them in letters of another script; None where none of its letters has a twin."""
    places = [place for place, word in enumerate(words) if word.translate(SCRIPTS[script]) != word]
    if not places:
        return None
    place = rng.choice(places)
    return " ".join(word.translate(SCRIPTS[script]) if at == place else word for at, word in enumerate(words))


@lru_cache(maxsize=1)
def synonyms() -> dict[str, str]:
    """Return words of the key list with one of like meaning each; the table is the project's own and covers a part."""
    text = resources.files("b4g.data").joinpath("synonyms.txt").read_text("utf-8")
    return dict(line.split() for line in text.splitlines() if line.strip())


def _dropped(words: list[str], rng: random.Random) -> str | None:
    if len(words) < 2:
        return None
    out = rng.randrange(len(words))
    return " ".join(word for place, word in enumerate(words) if place != out)


def _synonym(words: list[str], rng: random.Random) -> str | None:
    """Put a word of like meaning in place of one; where the table has none, the list's nearest word in letters."""
    known = synonyms()
    places = [place for place, word in enumerate(words) if word.lower() in known]
    if not places:
        place = rng.randrange(len(words))
        new = min((word for word in word_list() if word not in words), key=lambda word: distance(word, words[place]))
    else:
        place = rng.choice(places)
        new = known[words[place].lower()]
    return " ".join(new if at == place else word for at, word in enumerate(words))


def _first(draw: Callable[[], str], good: Callable[[str], bool]) -> str | None:
    return next((text for text in (draw() for _ in range(_TRIES)) if good(text)), None)
