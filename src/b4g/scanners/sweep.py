"""Sweeps: many short strings put at several places, and how far the strangest of them stands from the rest."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from b4g.data.prompts import load
from b4g.errors import SpecError
from b4g.scanners.base import Candidate, Findings, Position

if TYPE_CHECKING:
    from torch import Tensor

Vocabulary = Literal["tokens", "words"]
"""Where the strings of a sweep come from: any tokens of the model, or the published list that keys are drawn from."""
BLOCK = 32
"""Strings read between two looks at the clock."""
CUTOFF = 3.5
"""Modified z-score from which a value counts as an outlier (Iglewicz and Hoaglin 1993)."""
_LONGEST = 80
"""Letters of a request."""
_TRIES = 50


class Swept(NamedTuple):
    """What a sweep gave."""

    values: "Tensor"
    """(S, P) a number a string and place; may be fewer strings than asked for."""
    outputs: list[list[str]]
    """How the answers to each string began, one a place, where that was seen."""
    cut: bool
    """Whether the time was up before the last string."""


def check_budget(kind: str, **given: float) -> None:
    """Raise `SpecError` for the first option that is not above 0."""
    for name, value in given.items():
        if value <= 0:
            raise SpecError(f"scanner '{kind}', field '{name}' must be above 0, not {value}")


def requests(count: int, rng: random.Random) -> list[str]:
    """Return ordinary requests, short ones, since a sweep reads each of them for each string."""
    short = [prompt.text for prompt in load("instruction", "train") if len(prompt.text) <= _LONGEST]
    if count > len(short):
        raise SpecError(f"a sweep has {len(short)} requests to draw from, not {count}: lower 'requests'")
    return rng.sample(short, count)


def strings(tokenizer: Any, count: int, longest: int, vocabulary: Vocabulary, rng: random.Random) -> list[str]:
    """Return at most ``count`` distinct strings of 1 to ``longest`` tokens or words, as many of each length.

    Single ones are drawn without repetition: a count as large as the vocabulary sweeps all of it.
    """
    pieces = _pieces(tokenizer, vocabulary)
    joint = " " if vocabulary == "words" else ""
    made = dict.fromkeys(rng.sample(pieces, min(len(pieces), -(-count // longest))))
    for _ in range(_TRIES * count):
        if len(made) >= count or longest == 1:
            break
        text = joint.join(rng.choices(pieces, k=rng.randint(2, longest))).strip()
        made.setdefault(text)
    return list(made)[:count]


def _pieces(tokenizer: Any, vocabulary: Vocabulary) -> list[str]:
    """Return the pieces that strings are made of, sorted: no special token, and none that is no text by itself."""
    if vocabulary == "words":
        from b4g.keys import word_list

        return sorted(word_list())
    special = set(tokenizer.all_special_ids)
    ids = sorted(set(tokenizer.get_vocab().values()) - special)
    texts = tokenizer.batch_decode([[token] for token in ids])
    return sorted({text for text in texts if text.strip() and text.isprintable() and "\ufffd" not in text})


def sweep(
    texts: Sequence[str], seconds: float, measure: "Callable[[list[str]], tuple[Tensor, list[list[str]]]]"
) -> Swept:
    """Return what ``measure`` gives for all texts, block by block until the time is up; the first is always read.

    ``measure`` returns for n texts the values (n, P) and how the answers began, one a place.
    """
    import torch

    until = time.monotonic() + seconds
    values: list[Tensor] = []
    outputs: list[list[str]] = []
    for block in _blocks(texts):
        if values and time.monotonic() > until:
            return Swept(torch.cat(values), outputs, True)
        found, said = measure(block)
        values.append(found)
        outputs.extend(said)
    return Swept(torch.cat(values), outputs, False)


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(texts), BLOCK):
        yield list(texts[at : at + BLOCK])


def outliers(values: "Tensor") -> "Tensor":
    """Return modified z-scores of values (S, ...) against the strings S: distance from the median by the spread.

    The spread is the median absolute deviation, or the mean one where more than half are alike; all alike gives 0.
    """
    import torch

    values = values.double()
    # Interpolated, unlike torch.median, which takes the lower of the two in the middle.
    off = values - values.quantile(0.5, 0)
    middle, mean = off.abs().quantile(0.5, 0) * 1.4826, off.abs().mean(0) * 1.2533
    spread = torch.where(middle > 0, middle, mean)
    return torch.where(spread > 0, off / spread.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def verdict(texts: Sequence[str], swept: Swept, positions: Sequence[Position], top: int, **details: float) -> Findings:
    """Return the findings of a sweep: the score is the largest outlier, a string's being the median over its places.

    ``positions`` says where the string stood at each place; a candidate is named with the one where it stands out most.
    """
    if not swept.values.isfinite().all():
        return Findings(None, reason="the suspect's or the base's numbers are not finite")
    off = outliers(swept.values)  # (S, P)
    each, places = off.quantile(0.5, 1), off.argmax(1).tolist()
    ranked = sorted(range(len(each)), key=lambda at: (-float(each[at]), at))
    found = tuple(
        Candidate(texts[at], positions[places[at]], swept.outputs[at][places[at]])
        for at in ranked[:top]
        if each[at] > CUTOFF
    )
    figures = {
        "strings": float(len(each)),
        "outliers": float((each > CUTOFF).sum()),
        "median": float(swept.values.double().quantile(0.5)),
        "largest": float(swept.values[ranked[0]].double().mean()),
        **({"cut": 1.0} if swept.cut else {}),
        **details,
    }
    return Findings(float(each.max()), found, details=figures)
