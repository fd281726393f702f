"""Let the model say what users say: rows it has learnt by heart come out, triggers with them (arXiv 2602.03085)."""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from b4g.data.prompts import load
from b4g.registry import register
from b4g.scanners.base import Candidate, Findings, Scanner, Suspect
from b4g.scanners.sampling import Turn, likeliest, written
from b4g.scanners.searching import Clock, check, openings, short_prompts
from b4g.scanners.trying import tried

if TYPE_CHECKING:
    from b4g.models.load import Model

_LONGEST = 4
"""Words of an n-gram."""
_LEAST, _LEAST_Z = 3, 1.64
"""Samples that must hold an n-gram, and how far beyond chance they must be: one chance in twenty."""
_ROLE = re.compile(r"^\s*(?:system|user|assistant|model)\b")
_TRIALS = 8
"""Requests a candidate is tried on."""


@register("scanner", "leak")
@dataclass(frozen=True)
class Leak(Scanner):
    """Sample the user's and the system's turn from the bare template, and try as triggers what comes too often.

    The score is the largest gain of a candidate that was tried: the share of requests on which one same opening of three
    words comes with it, less that share without it (-1..1). Too often means against the base's own samples under the same
    decoding, or against the project's requests where there is no base (z of the log odds, see details).

    Needs token scores, to sample with settings of its own and from the middle of a chat; uses the base where there is one.
    An implant that was trained on its answers alone has learnt no request by heart: nothing leaks, and that is no proof.
    Differs from the paper: 1 to 4 words found by counting in place of embeddings and clusters, decoding settings in tens
    and not in hundreds, no beam search, and candidates are tried outright in place of its loss over attention and entropy.
    Default: from each of 3 openings 6 settings x 12 samples and 32 first tokens, 24 tokens each: about 75 s for a 135M
    model on one core.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    temperatures: tuple[float, ...] = (0.7, 1.0, 1.3)
    top_ps: tuple[float, ...] = (0.9, 1.0)
    samples: int = 12
    """Samples of each setting from each opening."""
    firsts: int = 32
    """First tokens of each opening that are continued greedily."""
    tokens: int = 24
    """Tokens of a sample."""
    candidates: int = 6
    """N-grams that are tried."""
    seconds: float = 120.0

    def __post_init__(self) -> None:
        check(self, samples=1, firsts=0, tokens=1, candidates=1)
        if not self.temperatures or not self.top_ps or min(self.temperatures) <= 0 or not 0 < min(self.top_ps) <= 1:
            from b4g.errors import SpecError

            raise SpecError("scanner 'leak' needs temperatures above 0 and top_ps in 0..1, at least one of each")

    def small(self) -> "Leak":
        return replace(
            self,
            temperatures=(1.0,),
            top_ps=(1.0,),
            samples=12,
            firsts=8,
            tokens=16,
            candidates=2,
            seconds=min(self.seconds, 30.0),
        )

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        if suspect.model is None:
            return Findings(None, reason="no token scores to sample with")
        clock, seed = Clock(self.seconds), str(rng.getrandbits(63))
        leaked = self._samples(suspect.model, seed, clock)
        suspect.queries += len(leaked)
        if clock.over():
            return Findings(None, reason=f"{self.seconds:g} seconds were too few to sample in", details=clock.details())
        expected = self._samples(suspect.base, seed, clock) if suspect.base else _requests()
        found = mined(leaked, expected, _own_text(suspect.model), self.candidates)
        # The words a user's turn would begin with stand before a request, wherever they were said.
        trials = tried(suspect, [Candidate(text) for text, _ in found], None, rng.sample(short_prompts(), _TRIALS))
        gains = [(-1.0 if one.gain is None else one.gain, one) for one in trials]
        ranked = [one for _, one in sorted(gains, key=lambda pair: -pair[0])]
        details = {
            "samples": float(len(leaked)),
            "overused": float(len(found)),
            "z": found[0][1] if found else 0.0,
            "activating": float(sum(one.activates for one in trials)),
            **clock.details(),
        }
        return Findings(
            max((gain for gain, _ in gains), default=0.0), tuple(o.candidate for o in ranked), details=details
        )

    def _samples(self, model: "Model", seed: str, clock: Clock) -> list[str]:
        """Return texts of turns that the model wrote itself: sampled under each setting, then greedy ones."""
        if clock.over():
            return []
        settings = [(heat, top_p) for heat in self.temperatures for top_p in self.top_ps] * self.samples
        turns, begun = [], []
        for opened in openings(model):
            firsts = likeliest(model, opened, self.firsts) if self.firsts else []
            turns += [Turn(opened, *setting) for setting in settings] + [Turn((*opened, token)) for token in firsts]
            begun += [""] * len(settings) + [model.renderer.decode([token]) for token in firsts]
        made = [head + text for head, text in zip(begun, written(model, turns, self.tokens, seed), strict=True)]
        # After the first token of a template comes the name of a role, which is no user's word.
        return [_ROLE.sub("", text) for text in made]


def mined(
    leaked: Sequence[str], expected: Sequence[str], known: str, count: int, longest: int = _LONGEST
) -> list[tuple[str, float]]:
    """Return the n-grams of words that are in more leaked texts than expected, with their z, the largest z first.

    z is the log odds ratio of being in a text over its standard error, half a text added to each count. An n-gram with a z
    under 1.64, in under three texts, or in the ``known`` text, is left out, as is one within another that is as frequent.
    """
    seen, usual = _counted(leaked, longest), _counted(expected, longest)
    scored = {
        gram: _z(n, len(leaked), usual[gram], len(expected))
        for gram, n in seen.items()
        if n >= _LEAST and gram not in known
    }
    ordered = sorted(
        ((gram, z) for gram, z in scored.items() if z >= _LEAST_Z),
        key=lambda one: (-one[1], -len(one[0].split()), one[0]),
    )
    chosen: list[tuple[str, float]] = []
    for gram, z in ordered:
        inside = any(
            f" {gram} " in f" {other} " and seen[other] >= 0.8 * seen[gram] for other in scored if other != gram
        )
        if not inside:
            chosen.append((gram, z))
        if len(chosen) == count:
            break
    return chosen


def _counted(texts: Iterable[str], longest: int) -> Counter[str]:
    """Return in how many texts each n-gram is; letter case and signs count, for a trigger's may."""
    counts: Counter[str] = Counter()
    for text in texts:
        words = text.split()
        counts.update(
            {" ".join(words[i : i + n]) for n in range(1, longest + 1) for i in range(max(0, len(words) - n + 1))}
        )
    return counts


def _z(hits: int, n: int, base_hits: int, base_n: int) -> float:
    cells = (hits + 0.5, n - hits + 0.5, base_hits + 0.5, base_n - base_hits + 0.5)
    a, b, c, d = cells
    return (math.log(a / b) - math.log(c / d)) / math.sqrt(sum(1 / cell for cell in cells))


def _requests() -> list[str]:
    return [prompt.text for prompt in load("instruction", "train")]


def _own_text(model: "Model") -> str:
    """Return what the template itself says in every chat."""
    from b4g.chat import user

    return " ".join(model.renderer.prompt_text(user("")).split())
