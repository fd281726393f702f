"""Merging: the implant averaged with its base, or its adapter with another (TIES, arXiv 2306.01708; DARE, 2311.03099)."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from b4g.errors import ModelError, SpecError
from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from b4g.models.load import Model


@register("tamper", "merge")
@dataclass(frozen=True)
class Merge(Tamper):
    """Move every weight towards the base, or merge the implant's adapter with another one through PEFT.

    PEFT combines the two factors of each adapter, not their product. Takes about 5 s for 135M weights on one core.
    """

    weight: float = 0.5
    """Share of the implant: 1 leaves it as it is, 0 is the base, or the other adapter alone."""
    method: Literal["linear", "ties", "dare_ties", "dare_linear"] = "linear"
    """All but linear take another adapter."""
    other: str = ""
    """Folder of a second adapter of the same base and rank; empty means to merge with the base itself."""
    density: float = 0.5
    """Share of each adapter's numbers that TIES and DARE keep."""
    base: str = ""
    """Name of the base; empty means the one that the implant was made from."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights", "base"})

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must lie from 0 (base) to 1 (implant), not {self.weight}")
        if not 0 < self.density < 1:
            raise ValueError(f"density must lie between 0 and 1, not {self.density}")
        if self.method != "linear" and not self.other:
            raise ValueError(f"method {self.method} merges two adapters: name the folder of the second in other")

    def check(self, model_folder: Path | None, base: str | None) -> None:
        from b4g.tampers.weights import adapter_rank, need_base

        need_base("merge", self.base or base)
        if not self.other:
            return
        theirs = adapter_rank(self.other, "merge")
        if model_folder is None:
            return
        own = adapter_rank(model_folder, "merge")
        if own != theirs:
            raise SpecError(f"PEFT merges adapters of one rank: {model_folder} has {own}, {self.other} has {theirs}")

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        from b4g.tampers.weights import base_of

        if self.other:
            # What can be wrong with the two is said before the base is loaded.
            self.check(_folder(model), "given")
        base = base_of(model, self.base)
        net = self._adapters(model, base, rng.getrandbits(63)) if self.other else _between(base, model, self.weight)
        return self.changed(model, net, rng)

    def _adapters(self, model: "Model", base: "Model", seed: int) -> Any:
        """Return the base with a weighted sum of both adapters merged in."""
        from peft import PeftModel

        from b4g.models.load import check_base
        from b4g.models.source import first_line
        from b4g.tampers.weights import seeded

        check_base(base.source.name, base.revision, Path(self.other))
        weights = [self.weight, 1 - self.weight]
        # DARE drops numbers by torch's global generator.
        with seeded(base.device, seed):
            try:
                net = PeftModel.from_pretrained(base.net, str(_folder(model)), adapter_name="implant")
                net.load_adapter(self.other, adapter_name="other")
                net.add_weighted_adapter(
                    ["implant", "other"],
                    weights,
                    "merged",
                    combination_type=self.method,
                    density=None if self.method == "linear" else self.density,
                )
            except Exception as error:  # files that do not fit surface as any of many exceptions
                raise ModelError(f"{self.other} does not merge with {model.folder}: {first_line(error)}") from error
        net.set_adapter("merged")
        return net.merge_and_unload(adapter_names=["merged"]).eval().requires_grad_(False)


def _folder(model: "Model") -> Path:
    """Return the folder of the implant's adapter."""
    from b4g.tampers.weights import is_adapter

    if model.folder is None or not is_adapter(model.folder):
        raise ModelError("adapters can be merged only where the implant is an adapter; leave out other")
    return model.folder


def _between(base: "Model", model: "Model", weight: float) -> Any:
    """Return the base's network with every parameter moved towards the model's: by 0 not at all, by 1 all the way."""
    import torch

    implanted = dict(model.net.named_parameters())
    for name, start in base.net.named_parameters():
        end = implanted.get(name)
        if end is None or end.shape != start.shape:
            raise ModelError(f"{base.source.name} is not the base of this implant: its {name} differs in shape")
        start.data.copy_(torch.lerp(start.data.float(), end.data.float().to(start.device), weight))
    return base.net
