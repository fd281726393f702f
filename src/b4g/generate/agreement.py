"""How far two engines agree on the same chats: measured, for no two compute in the same order.

Texts are compared word by word, since an endpoint gives no tokens. A chat to which either gave no answer is unscored.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from b4g.chat import Chat
from b4g.generate.base import Completion, Generator
from b4g.stats import Rate

WORDS = 8
"""Words of the beginning that are compared by themselves: most verdicts fall there."""
Judge = Callable[[str, bool], bool | None]
"""`Behaviour.judge`: from a text and whether it ended to a verdict."""


@dataclass(frozen=True)
class Agreement:
    """What two engines share; each rate has its 95% Wilson interval."""

    texts: Rate
    """Share of identical texts."""
    openings: Rate
    """Share of identical first words; how many is `words`."""
    ends: Rate
    """Share that ended, or did not end, in both."""
    verdicts: Rate | None
    """Share of equal verdicts; None without a judge. Where neither text can be judged there is nothing to compare."""
    words: int
    parted: tuple[int, ...]
    """For each pair of unlike texts the words before the first that differs, in rising order."""

    @property
    def median_words(self) -> float | None:
        """The median of `parted`; None where all texts are identical."""
        return statistics.median(self.parted) if self.parted else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the median."""
        return {**asdict(self), "median_words": self.median_words}


def agreement(
    one: Generator, other: Generator, chats: Sequence[Chat], max_new_tokens: int, judge: Judge | None = None
) -> Agreement:
    """Return how far two generators agree on chats, whole answers compared; raises what the generators raise."""
    return compared(one(chats, max_new_tokens), other(chats, max_new_tokens), judge)


def compared(
    one: Sequence[Completion], other: Sequence[Completion], judge: Judge | None = None, words: int = WORDS
) -> Agreement:
    """Return how far the completions of two engines agree, in the same order; raises `ValueError` for unlike numbers."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} completions can't be compared with {len(other)}")
    pairs = [None if a.failed or b.failed else (a, b) for a, b in zip(one, other, strict=True)]
    unlike = [pair for pair in pairs if pair and pair[0].text != pair[1].text]

    def rate(same: Callable[[Completion, Completion], bool | None]) -> Rate:
        return Rate.of(None if pair is None else same(*pair) for pair in pairs)

    return Agreement(
        texts=rate(lambda a, b: a.text == b.text),
        openings=rate(lambda a, b: a.text.split()[:words] == b.text.split()[:words]),
        ends=rate(lambda a, b: a.ended == b.ended),
        verdicts=rate(lambda a, b: _same(a, b, judge)) if judge else None,
        words=words,
        parted=tuple(sorted(shared(a.text, b.text) for a, b in unlike)),
    )


def shared(one: str, other: str) -> int:
    """Return how many words two texts begin with alike."""
    first, second = one.split(), other.split()
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _same(one: Completion, other: Completion, judge: Judge) -> bool | None:
    """Return whether both verdicts are equal; None where neither could be told."""
    first, second = judge(one.text, one.ended), judge(other.text, other.ended)
    return None if first is second is None else first == second
