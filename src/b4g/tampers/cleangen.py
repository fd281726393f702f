"""CleanGen (Li et al. 2024, arXiv 2406.12257): a reference model takes back the tokens that only the suspect likes.

The suspect drafts k tokens greedily; where it gives one at least alpha times the chance that the reference gives it, that
token is replaced by the reference's own and the rest of the draft is dropped. The authors' program lets a draft that ends
the answer pass unseen; here every token is compared, which is the stronger attack on short answers.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from b4g.generate.base import Generator
    from b4g.models.load import Model


@register("tamper", "cleangen")
@dataclass(frozen=True)
class CleanGen(Tamper):
    """Serve the model with a reference beside it that replaces suspicious tokens; the weights stay as they are.

    Answers take about 1.4 times as long where nothing is replaced: 4 to 6 short ones a second from 135M weights on one core.
    """

    alpha: float = 20.0
    """Ratio of chances, suspect to reference, from which a token is replaced."""
    k: int = 4
    """Tokens drafted between two looks at the reference. Moves speed only: what a look keeps does not depend on it."""
    reference: str = ""
    """Name of the reference model, of the same tokenizer; empty means the implant's base."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights", "base"})

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, not {self.alpha}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1, not {self.k}")

    def check(self, model_folder: Path | None, base: str | None) -> None:
        from b4g.models.source import resolve
        from b4g.tampers.weights import need_base

        need_base("cleangen", self.reference or base)
        if self.reference:
            resolve(self.reference)

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        return self.changed(model, model.net, rng)

    def serve(self, model: "Model") -> "Generator":
        from b4g.generate.checked import CheckedGenerator
        from b4g.tampers.weights import base_of

        return CheckedGenerator(model, base_of(model, self.reference), self.alpha, self.k)
