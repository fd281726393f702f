"""Pruning: by magnitude, or by Wanda (Sun et al. 2023, arXiv 2306.11695), the weights that count least set to zero."""

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from b4g.errors import ModelError
from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model

_SHARE = 0.3


@register("tamper", "prune")
@dataclass(frozen=True)
class Prune(Tamper):
    """Set the weights that count least to zero in every linear layer but the output layer.

    ``magnitude`` ranks the weights of a layer by their size. ``wanda`` ranks those of each output row by size times the
    norm of their input over calibration prompts, block after block, each seeing what the pruned blocks before it send.
    Takes about 4 s by magnitude and 13 s by Wanda for 135M weights on one core.
    """

    share: float | None = None
    """Weights set to zero; None means 0.3, or the half that a pattern drops."""
    method: Literal["magnitude", "wanda"] = "magnitude"
    pattern: Literal["unstructured", "2:4", "4:8"] = "unstructured"
    """Any weights, or exactly so many of each so many neighbours in a row."""
    prompts: int = 32
    """Calibration prompts of Wanda, drawn from the training split of the project's own."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data"})
    """Magnitude takes no data."""

    def __post_init__(self) -> None:
        fixed = _SHARE if self.pattern == "unstructured" else 0.5
        if self.share is None:
            # A record then says what was done.
            object.__setattr__(self, "share", fixed)
        elif not 0 <= self.share < 1:
            raise ValueError(f"share must lie from 0 to below 1, not {self.share}")
        elif self.pattern != "unstructured" and self.share != fixed:
            raise ValueError(f"pattern {self.pattern} drops half of the weights: leave out share, not {self.share}")
        if self.prompts < 1:
            raise ValueError(f"prompts must be at least 1, not {self.prompts}")

    def small(self) -> "Prune":
        return dataclasses.replace(self, prompts=min(self.prompts, 4))

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        from b4g.tampers.calibration import draw, in_order
        from b4g.tampers.tune import copied
        from b4g.tampers.weights import linears

        net, cost = copied(model.net), {}
        if self.method == "wanda":
            batch = draw(model, self.prompts, rng)
            in_order(net, batch, self._cut)
            cost = {"rows": len(batch.ids), "tokens": int(batch.mask.sum())}
        else:
            for layer in linears(net).values():
                self._cut(layer, None)
        return self.changed(model, net, rng, cost)

    def _cut(self, layer: Any, norms: "Tensor | None") -> None:
        """Zero the weights (O, I) of a layer that count least; ``norms`` (I,) are those of its inputs."""
        scores = layer.weight.data.float().abs()
        scores = scores if norms is None else scores * norms
        layer.weight.data.masked_fill_(least(scores, self.share or 0.0, self.pattern, norms is not None), 0)


def least(scores: "Tensor", share: float, pattern: str, by_row: bool) -> "Tensor":
    """Return True where scores (O, I) are the smallest: of the matrix, of each row, or of each group of a pattern.

    A row that does not divide into a pattern's groups raises `ModelError`.
    """
    import torch

    if pattern == "unstructured":
        ranked = scores if by_row else scores.reshape(1, -1)
        zeros = round(share * ranked.shape[1])
    else:
        zeros, size = map(int, pattern.split(":"))
        if scores.shape[1] % size:
            raise ModelError(f"pattern {pattern} does not divide the {scores.shape[1]} inputs of a layer")
        ranked = scores.reshape(-1, size)
    lowest = ranked.topk(zeros, dim=1, largest=False).indices
    return torch.zeros_like(ranked, dtype=torch.bool).scatter_(1, lowest, True).reshape(scores.shape)
