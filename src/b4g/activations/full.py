"""All weights of the model."""

from dataclasses import dataclass
from typing import Any

from b4g.activations.base import Activation
from b4g.registry import register


@register("activation", "full")
@dataclass(frozen=True, kw_only=True)
class Full(Activation):
    """Train every weight; the implant is a whole model, not an adapter."""

    learning_rate: float = 5e-5

    def prepare(self, net: Any, seed: int) -> Any:
        return net.requires_grad_(True).train()
