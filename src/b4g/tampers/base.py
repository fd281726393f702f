"""What every tamper is: a change of a model after implanting, as an attacker or a later owner would make it."""

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from b4g import registry
from b4g.errors import SpecError, unknown
from b4g.hashing import digest, file_digest

if TYPE_CHECKING:
    from b4g.generate.base import Generator
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

    def check(self, model_folder: Path | None, base: str | None) -> None:
        """Raise a `B4GError` for what can be known before any compute: missing data, base, library, rank."""

    def inputs(self) -> list[str]:
        """Return the hashes of the files and adapters that the options name: what they hold can move a number."""
        named = [getattr(self, field.name) for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        paths = [Path(value) for value in named if isinstance(value, str) and value]
        files = [path / "adapter_model.safetensors" if path.is_dir() else path for path in paths]
        return [file_digest(file) for file in files if file.is_file()]

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        """Return the changed model; the input is left unchanged."""
        raise NotImplementedError

    def serve(self, model: "Model") -> "Generator":
        """Return what answers chats with the model that `apply` returned; tampers of decoding change this alone."""
        from b4g.generate.local import LocalGenerator

        return LocalGenerator(model)

    def small(self) -> "Tamper":
        """Return the tamper at the size of tests: under a minute on a small model."""
        return self

    def changed(self, model: "Model", net: Any, rng: random.Random, cost: Mapping[str, float] | None = None) -> "Model":
        """Return the model with ``net`` in place of its network, under an identity of its own.

        Records and caches tell models apart by that identity. The draw stands for the seed behind ``rng``. ``cost`` is
        what the attacker spent: rows, steps, tokens.
        """
        made = digest([model.adapter, registry.describe(self), rng.getrandbits(64)])
        return dataclasses.replace(model, net=net, adapter=made, cost=dict(cost or {}))
