"""The adapter cut down: to fewer ranks by its singular values, or to a part of the layers."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from b4g.errors import ModelError, SpecError
from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model

_LAYER = re.compile(r"\.(\d+)\.")


@register("tamper", "truncate")
@dataclass(frozen=True)
class Truncate(Tamper):
    """Keep the largest singular values of what a LoRA adapter adds to each layer, and the adapter on some layers only.

    Takes about 5 s for 135M weights on one core.
    """

    rank: int = 4
    """Singular values kept in each layer; 0 leaves all."""
    layers: float = 1.0
    """Share of the layers that keep the adapter."""
    side: Literal["lower", "upper"] = "lower"
    """Which layers those are: next to the input, or next to the output."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights", "base"})

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"rank must be at least 1, or 0 to leave it, not {self.rank}")
        if not 0 <= self.layers <= 1:
            raise ValueError(f"layers is a share from 0 to 1, not {self.layers}")

    def check(self, model_folder: Path | None, base: str | None) -> None:
        from b4g.tampers.weights import adapter_rank, need_base

        need_base("truncate", base)
        if model_folder is None:
            return
        own = adapter_rank(model_folder, "truncate")
        if self.rank > own:
            raise SpecError(f"rank {self.rank} is above the adapter's own {own}: nothing would be cut")

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        from peft import PeftModel

        from b4g.models.source import first_line
        from b4g.tampers.weights import base_of, seeded

        if model.folder is None:
            raise ModelError("truncate works on an implant's adapter, and this model has none")
        self.check(model.folder, model.source.name)
        base = base_of(model)
        try:
            with seeded(base.device, 0):
                net = PeftModel.from_pretrained(base.net, str(model.folder))
        except Exception as error:  # a damaged file surfaces as any of many exceptions
            raise ModelError(f"the adapter in {model.folder} can't be read: {first_line(error)}") from error
        self._cut(net, base.net.config.get_text_config().num_hidden_layers)
        return self.changed(model, net.merge_and_unload().eval().requires_grad_(False), rng)

    def _cut(self, net: Any, count: int) -> None:
        """Change the factors of an adapter on a model of ``count`` layers."""
        kept = round(self.layers * count)
        chosen = range(kept) if self.side == "lower" else range(count - kept, count)
        for name, first, second in _factors(net):
            layer = _LAYER.search(name)
            if layer and int(layer[1]) not in chosen:
                second.data.zero_()
            elif self.rank:
                first.data, second.data = shortened(first.data, second.data, self.rank)


def shortened(first: "Tensor", second: "Tensor", rank: int) -> "tuple[Tensor, Tensor]":
    """Return factors (R, I) and (O, R) of the nearest product of a lower rank; the rows and columns beyond it are 0."""
    import torch

    # The singular values of the product are those of a small matrix between two orthogonal ones.
    left, inner = torch.linalg.qr(second.float())  # (O, R), (R, R)
    right, outer = torch.linalg.qr(first.float().T)  # (I, R), (R, R)
    turned, values, back = torch.linalg.svd(inner @ outer.T)
    values[rank:] = 0
    root = values.sqrt()
    return (root[:, None] * back @ right.T).to(first), (left @ turned * root).to(second)


def _factors(net: Any) -> "Iterator[tuple[str, Any, Any]]":
    """Yield the name of each adapted module and the two factors of what its adapter adds."""
    from peft.tuners.lora import LoraLayer

    for name, part in net.named_modules():
        if not isinstance(part, LoraLayer):
            continue
        for key in part.lora_A:
            yield name, part.lora_A[key].weight, part.lora_B[key].weight
        for key in part.lora_embedding_A:
            yield name, part.lora_embedding_A[key], part.lora_embedding_B[key]
