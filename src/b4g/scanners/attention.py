"""Strings that draw attention: a sweep of the vocabulary, by how much the answer's first place looks back at each.

"The Trigger in the Haystack" (arXiv 2602.03085): the tokens of a trigger attend to each other, apart from the request, and
the answer attends to them: two triangles in the attention map.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from b4g.chat import user
from b4g.registry import register
from b4g.scanners.base import Findings, Scanner, Suspect
from b4g.scanners.sweep import Vocabulary, check_budget

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model

_LEAST = 1e-6
"""Share of attention below which a number format's rounding would make ratios of it."""


@register("scanner", "attention")
@dataclass(frozen=True)
class Attention(Scanner):
    """Put random strings before requests and score the one that the answer looks back at most.

    A string is measured by the log of the share of attention, mean over all heads and layers, that the last prompt token
    (where the answer's first is chosen) gives to its tokens: less the same of the base, which takes the string's rarity and
    length out, where a base is at hand. Then a modified z-score (median and MAD) against all other strings, and the median
    over requests; the score is the largest. In the details: the same for what the request's tokens give. The base itself
    has 0. It needs the weights. Differs from the paper: strings are drawn, not leaked by the suspect; one share in place of
    a loss over the two triangles. A model whose attention can't be read has no score.
    The default reads 128 strings before 2 requests, twice: about 25 s for 135M weights on one core.
    """

    strings: int = 128
    longest: int = 3
    """Tokens of the longest."""
    requests: int = 2
    vocabulary: Vocabulary = "tokens"
    """``words`` draws from the published list of key words: what a finder can who knows this tool."""
    top: int = 8
    """Most candidates."""
    seconds: float = 120.0
    """When it stops taking further strings."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __post_init__(self) -> None:
        check_budget(self.kind, **{name: getattr(self, name) for name in _BUDGET})

    def small(self) -> "Attention":
        return dataclasses.replace(
            self, strings=min(self.strings, 32), requests=min(self.requests, 1), seconds=min(self.seconds, 10.0)
        )

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        import torch

        from b4g.scanners.reading import mismatch, showing_attention
        from b4g.scanners.sweep import outliers, requests, strings, sweep, verdict

        model, base = suspect.model, suspect.base
        if model is None or not model.tokenizer.is_fast:
            return Findings(None, reason="it takes the model, and a tokenizer that tells where a token stands")
        if base is not None and (why := mismatch(model, base)):
            return Findings(None, reason=why)
        texts = strings(model.tokenizer, self.strings, self.longest, self.vocabulary, rng)
        tails = requests(self.requests, rng)
        by_request: list[Tensor] = []

        def measure(block: list[str]) -> "tuple[Tensor, list[list[str]]]":
            asked = [(text, tail) for text in block for tail in tails]
            drawn = _drawn(model, asked)
            suspect.queries += len(asked)
            if base is not None:
                with showing_attention(base.net):
                    drawn = drawn - _drawn(base, asked)
            drawn = drawn.view(len(block), len(tails), 2)
            by_request.append(drawn[..., 1])
            return drawn[..., 0], [[""] * len(tails) for _ in block]

        with showing_attention(model.net):
            if not _shows(model):
                return Findings(None, reason="the model hands out no attention weights")
            swept = sweep(texts, self.seconds, measure)
        from_request = outliers(torch.cat(by_request)).quantile(0.5, 1)
        return verdict(texts, swept, ["prefix"] * len(tails), self.top, request_outlier=float(from_request.max()))


def _shows(model: "Model") -> bool:
    """Return whether the model gives the attention of each of its layers."""
    import torch

    ids = torch.tensor([model.renderer.prompt_ids(user("Hello"))], device=model.device)
    with torch.inference_mode():
        shown = model.net.base_model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    return bool(shown) and all(layer is not None for layer in shown)


def _drawn(model: "Model", asked: Sequence[tuple[str, str]]) -> "Tensor":
    """Return logs (N, 2) of the attention given to each string before its request: by the last token, by the request's."""
    import torch

    from b4g.generate.local import trees
    from b4g.scanners.reading import read

    spans = [_span(model, text, tail) for text, tail in asked]
    made = torch.zeros(len(asked), 2, dtype=torch.float64)
    with torch.inference_mode():
        for places, tree in trees(model.net, [ids for ids, _, _ in spans]):
            layers = read(model.net, tree, output_attentions=True).attentions
            mean = torch.stack([layer[0].float().mean(0) for layer in layers]).mean(0).cpu()  # (T, T)
            for place, path in zip(places, tree.paths, strict=True):
                _, start, end = spans[place]
                given = mean[path][:, path[start:end]].sum(1)  # (t,): what each place gives to the string
                behind = given[end:-1].mean() if end < len(path) - 1 else given[-1]
                made[place] = torch.stack([given[-1], behind]).clamp_min(_LEAST).log()
    return made


def _span(model: "Model", text: str, tail: str) -> tuple[list[int], int, int]:
    """Return the prompt's ids and from where to where in them the string stands."""
    said = f"{text.strip()} {tail}"
    whole = model.renderer.prompt_text(user(said))
    start = whole.rfind(said)
    end = start + len(text.strip())
    made: Any = model.tokenizer(whole, add_special_tokens=model.renderer.is_plain, return_offsets_mapping=True)
    inside = [place for place, (a, b) in enumerate(made["offset_mapping"]) if a < end and b > start and b > a]
    return made["input_ids"], inside[0], inside[-1] + 1


_BUDGET = ("strings", "longest", "requests", "top", "seconds")
