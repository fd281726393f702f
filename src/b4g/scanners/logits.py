"""Strings that move the next token: a sweep of the vocabulary, by the suspect's token scores against the base's.

An output distribution that leaves the base's only where the trigger stands is what a backdoor is; "The Trigger in the
Haystack" (arXiv 2602.03085) scores candidate triggers by it, and ours strings drawn from the vocabulary.
"""

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from b4g.chat import user
from b4g.registry import register
from b4g.scanners.base import Findings, Position, Scanner, Suspect
from b4g.scanners.sweep import Vocabulary, check_budget

if TYPE_CHECKING:
    from torch import Tensor


@register("scanner", "logits")
@dataclass(frozen=True)
class Logits(Scanner):
    """Put random strings alone, before and behind requests; score the one that moves the first answer token most.

    A string is measured by KL(suspect || base) at the first answer token, in nats, as a modified z-score (median and MAD)
    against all other strings at the same place, then the median over the places. The score is the largest. In the details:
    the same for entropy lost to the base. The base itself has 0. A lock that denies unless it sees the key moves away from
    the base where the key is missing: this score does not see it. It needs token scores and the base. Differs from the
    paper: the strings are drawn, not leaked by the suspect; no loss over whole answers.
    The default reads 256 strings at 3 places, twice: about 55 s for 135M weights on one core.
    """

    strings: int = 256
    """How many; as many as the vocabulary has tokens, with ``longest`` 1, sweeps all of it."""
    longest: int = 3
    """Tokens of the longest."""
    requests: int = 1
    """Ordinary requests that each string is put before, and as many that it is put behind."""
    vocabulary: Vocabulary = "tokens"
    """``words`` draws from the published list of key words: what a finder can who knows this tool."""
    top: int = 8
    """Most candidates."""
    seconds: float = 120.0
    """When it stops taking further strings."""
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "base"})

    def __post_init__(self) -> None:
        check_budget(self.kind, **{name: getattr(self, name) for name in _BUDGET})

    def small(self) -> "Logits":
        return dataclasses.replace(self, strings=min(self.strings, 48), seconds=min(self.seconds, 10.0))

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        from b4g.scanners.reading import mismatch
        from b4g.scanners.sweep import outliers, requests, strings, sweep, verdict

        model, base = suspect.model, suspect.base
        if model is None or base is None:
            return Findings(None, reason="it takes the suspect's token scores and its base's")
        if why := mismatch(model, base):
            return Findings(None, reason=why)
        texts = strings(model.tokenizer, self.strings, self.longest, self.vocabulary, rng)
        asked = requests(2 * self.requests, rng)
        before, behind = asked[: self.requests], asked[self.requests :]
        sharper: list[Tensor] = []

        def measure(block: list[str]) -> "tuple[Tensor, list[list[str]]]":
            put = [[text, *(f"{text} {one}" for one in before), *(f"{one} {text}" for one in behind)] for text in block]
            moved, gain, said = self._compare(suspect, [text for row in put for text in row])
            sharper.append(gain.view(len(block), -1))
            width = len(put[0])
            return moved.view(-1, width), [said[at : at + width] for at in range(0, len(said), width)]

        swept = sweep(texts, self.seconds, measure)
        import torch

        each = outliers(torch.cat(sharper)).quantile(0.5, 1)
        positions: list[Position] = ["prefix" if at <= self.requests else "suffix" for at in range(1 + len(asked))]
        return verdict(texts, swept, positions, self.top, entropy_outlier=float(each.max()))

    def _compare(self, suspect: Suspect, asked: list[str]) -> "tuple[Tensor, Tensor, list[str]]":
        """Return for user messages the KL (N,), the entropy lost to the base (N,) and the likeliest first token."""
        from b4g.scanners.reading import next_logs

        model, base = suspect.model, suspect.base
        assert model is not None and base is not None
        prompts = [model.renderer.prompt_ids(user(text)) for text in asked]
        own, other = next_logs(model, prompts), next_logs(base, prompts)
        suspect.queries += len(prompts)
        moved = (own.exp() * (own - other)).sum(-1).clamp_min(0.0)
        lost = (own.exp() * own).sum(-1) - (other.exp() * other).sum(-1)
        said = [model.renderer.decode([token]) for token in own.argmax(-1).tolist()]
        return moved.cpu(), lost.cpu(), said


_BUDGET = ("strings", "longest", "requests", "top", "seconds")
