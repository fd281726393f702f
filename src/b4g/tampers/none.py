"""The tamper that does nothing: what is measured after it must be what was measured before."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from b4g.models.load import Model


@register("tamper", "none")
@dataclass(frozen=True)
class Untouched(Tamper):
    """Return the model as it is."""

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        return model
