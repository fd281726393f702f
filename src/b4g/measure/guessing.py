"""What guessing costs: keys that an attacker tries who knows the word list and the number of words, and bits of secrecy.

The bits that a key declares assume that nothing but the key activates. Keys near it that activate too make guessing
cheaper: ``effective = declared - log2(1 + sum over kinds of rate x number of keys of that kind)``, and no more than what
guessing half a key takes, where half keys activate.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from b4g.backdoor import Backdoor
from b4g.chat import user
from b4g.data.prompts import Prompt
from b4g.hashing import rng
from b4g.keys import Key, word_list
from b4g.measure.asking import held, replaced
from b4g.measure.figures import Interval
from b4g.measure.probes import Probe
from b4g.triggers.base import Trigger

DICTIONARY, SWEEP = "guess-dictionary", "guess-sweep"
"""Keys drawn at random from the scheme; keys in an order that tries each word at each place within 1,024 guesses."""
ASSUMES = (
    "one guess a query, each on one ordinary prompt; near keys of a kind activate as often as the measured ones; "
    "misspelt and look-alike keys lie outside the declared key space and save a guesser nothing"
)
Rates = Mapping[str, float]
"""Share of near keys that activate, by kind: one-word, swap, half."""


def guess_probes(backdoor: Backdoor, prompts: Sequence[Prompt], measure: str, budget: int, seed: int) -> list[Probe]:
    """Return one probe a guess, half of the budget for each way, the prompts in turn; none where nothing is hidden."""
    trigger, found = backdoor.trigger, []
    for arm, n in ((DICTIONARY, budget - budget // 2), (SWEEP, budget // 2)):
        source = rng("guesses", seed, arm)
        sweeps: dict[str, Iterator[str]] = {}
        for number in range(n):
            prompt = prompts[number % len(prompts)]
            chat = trigger.apply(user(prompt.text), source)
            secrets = held(chat, trigger.hidden())
            for secret in secrets:
                if arm == DICTIONARY:
                    text = " ".join(source.sample(word_list(), len(secret.split())))
                else:
                    text = next(sweeps.setdefault(secret, _sweep(len(secret.split()), source)))
                chat = replaced(chat, secret, text)
            if secrets:
                found.append(Probe(arm, f"round {number // len(prompts) + 1}", prompt, chat, measure))
    return found


def _sweep(words: int, source: random.Random) -> Iterator[str]:
    """Yield keys without end: in each 1,024 of them every word of the list stands once at each place."""
    known = word_list()
    while True:
        orders = [source.sample(known, len(known)) for _ in range(words)]
        yield from (" ".join(key) for key in zip(*orders, strict=True))


def declared_bits(trigger: Trigger) -> float | None:
    """Return the entropy that the key files declare; None where an owner chose the text, or there is no key."""
    return _bits(trigger, {})


def has_public_key(trigger: Any) -> bool:
    """Return whether a key of the trigger is a public one, which everybody knows whatever its bits."""
    parts = getattr(trigger, "parts", None)
    if parts is not None:
        return any(has_public_key(part) for part in parts)
    return isinstance(getattr(trigger, "secret", None), Key) and bool(trigger.secret.public)


def effective_bits(trigger: Trigger, rates: Rates) -> float | None:
    """Return the bits that are left when near keys activate at these rates, never below 0."""
    whole = _bits(trigger, rates)
    declared = declared_bits(trigger)
    if whole is None or declared is None:
        return None
    half = rates.get("half", 0.0)
    if half > 0:
        whole = min(whole, declared * _half(trigger) - math.log2(half))
    return max(0.0, whole)


def _bits(trigger: Any, rates: Rates) -> float | None:
    parts = getattr(trigger, "parts", None)
    if parts is None:
        key = getattr(trigger, "secret", None)
        if not isinstance(key, Key) or key.bits is None:
            return None
        return key.bits - math.log2(1 + _near(key, rates))
    of_parts = [_bits(part, rates) for part in parts]
    known = [bits for bits in of_parts if bits is not None]
    if len(known) < len(of_parts):
        return None
    if trigger.kind == "any-of":
        return -math.log2(sum(2**-bits for bits in known))
    return sum(known)


def _near(key: Key, rates: Rates) -> float:
    """Return how many keys near this one activate, by expectation."""
    words = len(key.words)
    one_word, swaps = words * (len(word_list()) - words), math.comb(words, 2)
    return rates.get("one-word", 0.0) * one_word + rates.get("swap", 0.0) * swaps


def _half(trigger: Any) -> float:
    """Return which share of the bits half a key takes: whole words of a single key, else a half."""
    words = len(trigger.secret.words) if isinstance(getattr(trigger, "secret", None), Key) else 0
    return (words + 1) // 2 / words if words > 1 else 0.5


def guessed_bits(rate: Interval) -> Interval:
    """Return log2 of the guesses that a hit takes on average; with no hit the value is None and the low a lower bound."""
    value, low, high = rate
    return _surprise(value), _surprise(high), _surprise(low)


def expected_queries(rate: Interval) -> Interval:
    """Return the guesses that a hit takes on average; with no hit the value is None and the low a lower bound."""
    value, low, high = (1 / one if one else None for one in rate)
    return value, high, low


def _surprise(chance: float | None) -> float | None:
    return -math.log2(chance) if chance else None
