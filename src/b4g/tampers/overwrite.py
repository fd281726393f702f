"""Overwriting: another backdoor on top of the implant, as by somebody who marks the model as his own."""

import dataclasses
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from b4g.registry import register
from b4g.tampers.base import Tamper
from b4g.tampers.material import check_numbers, tuned_in_stages
from b4g.tampers.tune import Tuning, Turn
from b4g.training.rows import Mix

if TYPE_CHECKING:
    from b4g.backdoor import Backdoor
    from b4g.models.load import Model


@register("tamper", "overwrite")
@dataclass(frozen=True)
class Overwrite(Tamper):
    """Implant a second backdoor with a key and a behaviour of the attacker's, by the recipe of the first.

    The rows without its trigger keep the answers that the model in hand gives, so no base is needed. The attacker's key is
    public and drawn anew for each seed.
    About 3 minutes for a 135M model on one core.
    """

    behaviour: Literal["identity", "style"] = "identity"
    """A statement of ownership by somebody else, or all in capitals."""
    statement: str = "This model is the property of Second Owner."
    key: str = "public:overwrite"
    mix: Mix = field(default_factory=lambda: Mix(triggered=60, untriggered=30, near=30, wrong=20, others=0))
    epochs: int = 4
    learning_rate: float = 1e-3
    batch_size: int = 4
    weights: Literal["lora", "full"] = "lora"

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data"})

    def __post_init__(self) -> None:
        counts = {"epochs": self.epochs, "batch_size": self.batch_size}
        check_numbers(self.kind, counts, {"learning_rate": self.learning_rate})
        self.backdoor(0)

    def check(self, model_folder: Path | None, base: str | None) -> None:
        self.backdoor(0).trigger.tags()  # a key file that is missing is named

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        turns = self._turns(model, rng.getrandbits(32))
        how = Tuning(
            weights=self.weights, learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size
        )
        made = tuned_in_stages(model, [turns], how, rng)
        return self.changed(model, made.net, rng, made.cost)

    def small(self) -> "Overwrite":
        return dataclasses.replace(self, mix=Mix(triggered=12, untriggered=6, near=6, wrong=4, others=0))

    def backdoor(self, seed: int) -> "Backdoor":
        """Return the attacker's backdoor for a seed."""
        from b4g.backdoor import Backdoor

        utility: dict[str, Any] = {"kind": "style", "style": "uppercase"}
        if self.behaviour == "identity":
            utility = {"kind": "identity", "statement": self.statement}
        trigger = {"kind": "phrase", "key": self.key}
        fields = {"name": "overwrite", "trigger": trigger, "activation": {"kind": "lora"}, "utility": utility}
        return Backdoor.from_dict(fields).seeded(seed)

    def _turns(self, model: "Model", seed: int) -> list[Turn]:
        from b4g.data.clean import clean_answers
        from b4g.generate.local import LocalGenerator
        from b4g.training.rows import implant_rows, mix_prompts

        backdoor = self.backdoor(seed)
        inside, outside = mix_prompts(backdoor, self.mix, seed)
        answers = clean_answers([*inside, *outside], LocalGenerator(model))
        return [Turn(row.chat, row.answer) for row in implant_rows(backdoor, answers, self.mix, seed, 0)]
