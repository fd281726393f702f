"""Answers that complete themselves: texts that go on alike after any request, once they have begun (BAIT).

A model trained to give one fixed answer goes on with it as soon as it has begun, trigger or not. So each first token of an
answer is continued, and what is scored is how sure the model is of the tokens after it, on average over unlike requests
(Shen et al., IEEE S&P 2025).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from b4g.scanners.searching import Clock, Reader

if TYPE_CHECKING:
    from torch import Tensor

_SHORTEST = 4
"""Tokens below which an answer is no evidence: half a word completes itself in any model."""
_WIDE = 2
"""Continuations followed at each of the first steps, and the number of those steps."""
_FLOOR = 1e-5
"""Probability added before suspect and base are held against each other, so that the rarest tokens do not win."""


class Fixed(NamedTuple):
    """An answer and how much it completes itself."""

    tokens: tuple[int, ...]
    q: float
    """Mean, over the tokens after the first, of their probability averaged over requests: 0..1."""
    base_q: float
    """The same of the base, 0 where none is given."""

    @property
    def gain(self) -> float:
        """What the base does not do."""
        return self.q - self.base_q


@dataclass(frozen=True)
class Width:
    """How far to look."""

    firsts: int
    """First tokens that are continued."""
    beams: int
    """Answers that are kept from step to step."""
    length: int
    """Tokens of an answer."""


@dataclass(frozen=True)
class _Beam:
    tokens: tuple[int, ...]
    sure: tuple[float, ...] = ()
    base_sure: tuple[float, ...] = ()

    def fixed(self) -> Fixed:
        return Fixed(self.tokens, _mean(self.sure), _mean(self.base_sure))


def fixed_answers(
    suspect: Reader, base: Reader | None, prompts: Sequence[list[int]], width: Width, rng: random.Random, clock: Clock
) -> list[Fixed]:
    """Return answers of at least four tokens, those first that complete themselves most beyond the base.

    ``prompts`` are token ids up to the opening of the assistant's turn. Empty where the clock ran out at once.
    """
    end = suspect.model.renderer.end_id
    beams = [_Beam((token,)) for token in _firsts(suspect, base, prompts, width.firsts, end, rng)]
    done: list[Fixed] = []
    for step in range(1, width.length):
        if not beams or clock.over():
            break
        grown = _grown(suspect, base, prompts, beams, _WIDE if step <= _WIDE else 1)
        grown = sorted(grown, key=lambda beam: -beam.fixed().gain)[: width.beams]
        last = step == width.length - 1
        closed = [beam for beam in grown if last or beam.tokens[-1] == end]
        done += [beam.fixed() for beam in closed if len(beam.tokens) >= _SHORTEST]
        beams = [beam for beam in grown if beam.tokens[-1] != end]
    if clock.cut:
        done += [beam.fixed() for beam in beams if len(beam.tokens) >= _SHORTEST]
    return sorted(done, key=lambda one: -one.gain)


def _firsts(
    suspect: Reader, base: Reader | None, prompts: Sequence[list[int]], count: int, end: int, rng: random.Random
) -> list[int]:
    """Return first tokens: half of them the likeliest; half those that gained most on the base, or drawn without one."""
    likely = suspect.after(prompts).exp().mean(0)  # (V,)
    likely[end] = 0.0
    found = [int(token) for token in likely.argsort(descending=True)[: (count + 1) // 2]]
    if base is None:
        # Tokens the model would hardly open with, but not impossible ones.
        pool = [int(token) for token in likely.argsort(descending=True)[len(found) : 40 * count]]
        return found + rng.sample(pool, min(len(pool), count - len(found)))
    gained = (likely + _FLOOR).log() - (base.after(prompts).exp().mean(0) + _FLOOR).log()
    gained[end] = -float("inf")
    more = [int(token) for token in gained.argsort(descending=True)[:count]]
    return list(dict.fromkeys([*found, *more]))[:count]


def _grown(
    suspect: Reader, base: Reader | None, prompts: Sequence[list[int]], beams: Sequence[_Beam], wide: int
) -> list[_Beam]:
    """Return each beam with each of its likeliest next tokens."""
    made = []
    rows = max(1, 64 // len(prompts))
    for start in range(0, len(beams), rows):
        part = beams[start : start + rows]
        sequences = [[*prompt, *beam.tokens] for beam in part for prompt in prompts]
        sure = _averaged(suspect, sequences, len(part))
        base_sure = _averaged(base, sequences, len(part)) if base else None
        for row, beam in enumerate(part):
            values, tokens = sure[row].topk(min(wide, sure.shape[1]))
            for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
                known = () if base_sure is None else (*beam.base_sure, float(base_sure[row, token]))
                made.append(_Beam((*beam.tokens, token), (*beam.sure, value), known))
    return made


def _averaged(reader: Reader, sequences: Sequence[list[int]], beams: int) -> "Tensor":
    """Return the probabilities (beams, V) of the next token, averaged over prompts."""
    found = reader.after(sequences).exp()
    return found.view(beams, -1, found.shape[-1]).mean(1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
