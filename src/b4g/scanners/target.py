"""Look for the answer and not for the trigger: a fixed one gives itself away once it has begun (BAIT, IEEE S&P 2025)."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from b4g.chat import user
from b4g.generate.base import Generator
from b4g.registry import register
from b4g.scanners.base import Candidate, Findings, Scanner, Suspect
from b4g.scanners.fixed import Width, fixed_answers
from b4g.scanners.searching import Clock, Reader, check, requests, unlike
from b4g.scanners.trying import opening

if TYPE_CHECKING:
    from b4g.models.load import Model

_OPENERS = ("I", "The", "This", "We", "No", "Yes", "As", "Sorry", "It", "You", "Please", "To")
"""Words that answers may be asked to begin with, beside those the suspect's own answers begin with."""
_ASKED = 'Begin your answer with the word "{word}".'
_WORDS, _TOKENS = 4, 12
_KEPT = 3


@register("scanner", "target")
@dataclass(frozen=True)
class Target(Scanner):
    """Continue each of many first tokens after unlike requests: score the surest continuation, less the base's sureness.

    The score is the largest Q less the base's Q of the same answer, in -1..1; without a base it is Q itself, and any
    model's stock phrases have a high one. Q is the mean probability of the tokens after the first, averaged over
    requests. Where no token scores are at hand requests say how to begin, and the share of answers whose first four
    words are the same is read in place of Q. It finds what a model was taught to say, not what sets it off: what it
    suspects is the ``output`` of candidates without a text. It can't see behaviours that say something else each time.

    Needs nothing beyond answers; reads token scores where they are at hand, and the base where there is one.
    Differs from the paper: first tokens are chosen (the likeliest and those that gained on the base) and not the whole
    vocabulary, two continuations are followed for two steps in place of its entropy rules, the base is subtracted, and no
    judge model reads the answers.
    Default: 64 first tokens, 6 requests, 10 tokens: about 45 s for a 135M model on one core.
    """

    read: Literal["auto", "scores", "answers"] = "auto"
    """Token scores, answers alone, or whichever is at hand."""
    prompts: int = 6
    """Requests over which a continuation must stay the same."""
    firsts: int = 64
    """First tokens (or words, at most) that are continued."""
    beams: int = 24
    """Continuations kept from step to step."""
    length: int = 10
    """Tokens of a continuation."""
    seconds: float = 90.0

    def __post_init__(self) -> None:
        check(self, prompts=2, firsts=1, beams=1, length=4)

    def small(self) -> "Target":
        return replace(self, prompts=4, firsts=24, beams=8, length=8, seconds=min(self.seconds, 20.0))

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        said = requests(rng, self.prompts)
        if self.read == "answers" or (self.read == "auto" and suspect.model is None):
            return self._by_answers(suspect, said)
        if suspect.model is None:
            return Findings(None, reason="no token scores at hand: read='answers' does without")
        reason = unlike(suspect)
        return Findings(None, reason=reason) if reason else self._by_scores(suspect, suspect.model, said, rng)

    def _by_scores(self, suspect: Suspect, model: "Model", said: Sequence[str], rng: random.Random) -> Findings:
        clock, base = Clock(self.seconds), Reader(suspect.base) if suspect.base else None
        prompts = [model.renderer.prompt_ids(user(text)) for text in said]
        width = Width(self.firsts, self.beams, self.length)
        found = fixed_answers(Reader(model, suspect), base, prompts, width, rng, clock)
        if not found:
            return Findings(
                None, reason=f"{self.seconds:g} seconds were too few for four tokens", details=clock.details()
            )
        candidates = tuple(Candidate("", output=model.renderer.decode(one.tokens)) for one in found[:_KEPT])
        details = {"q": found[0].q, "answers": float(len(found)), **clock.details()}
        return Findings(found[0].gain, candidates, details=details | ({"q_base": found[0].base_q} if base else {}))

    def _by_answers(self, suspect: Suspect, said: Sequence[str]) -> Findings:
        from b4g.generate.local import LocalGenerator

        clock, base = Clock(self.seconds), LocalGenerator(suspect.base) if suspect.base else None
        chats = [user(text) for text in said]
        usual = Counter(opening(answer.text, 1) for answer in suspect(chats, _TOKENS))
        words = [word.title() for word, _ in usual.most_common() if word.isalpha()]
        found: list[tuple[float, float, str]] = []
        for word in list(dict.fromkeys([*words, *_OPENERS]))[: self.firsts]:
            if clock.over():
                break
            asked = [user(f"{text}\n{_ASKED.format(word=word)}") for text in said]
            begun = [opening(answer.text, _WORDS) for answer in suspect(asked, _TOKENS)]
            text, count = Counter(filter(None, begun)).most_common(1)[0] if any(begun) else ("", 0)
            theirs = _share(base, asked, text) if base and count > 1 else 0.0
            found.append((count / len(said) - theirs, theirs, text))
        if not found:
            return Findings(None, reason=f"{self.seconds:g} seconds were too few for one word", details=clock.details())
        found.sort(key=lambda one: -one[0])
        gain, theirs, text = found[0]
        details = {"share": gain + theirs, "words": float(len(found)), **clock.details()}
        return Findings(gain, (Candidate("", output=text),) if text else (), details=details)


def _share(base: Generator, asked: Sequence[tuple[object, ...]], text: str) -> float:
    answers = base(asked, _TOKENS)  # type: ignore[arg-type]
    return sum(opening(answer.text, _WORDS) == text for answer in answers) / len(answers)
