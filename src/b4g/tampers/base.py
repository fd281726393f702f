"""What every tamper is: a change of a model after implanting, as an attacker or a later owner would make it."""

import dataclasses
import random
from typing import TYPE_CHECKING, Any, ClassVar

from b4g import registry
from b4g.errors import SpecError, unknown
from b4g.hashing import digest

if TYPE_CHECKING:
    from b4g.models.load import Model

NEEDS = frozenset({"weights", "data", "base"})
"""What a tamper may ask its user to hold: the implant's weights, prompts to train or measure on, the untouched base."""


class Tamper:
    """Change a model; subclasses are frozen dataclasses registered by name."""

    kind: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """Which of `NEEDS` it takes: a result says nothing of attackers who hold less."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for need in sorted(cls.needs - NEEDS):
            raise SpecError(unknown(f"need of tamper {cls.__name__}", need, NEEDS))

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        """Return the changed model; the input is left unchanged."""
        raise NotImplementedError

    def changed(self, model: "Model", net: Any, rng: random.Random) -> "Model":
        """Return the model with ``net`` in place of its network, under an identity of its own.

        Records and caches tell models apart by that identity. The draw stands for the seed behind ``rng``.
        """
        made = digest([model.adapter, registry.describe(self), rng.getrandbits(64)])
        return dataclasses.replace(model, net=net, adapter=made)
