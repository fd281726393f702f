"""Benign fine-tuning: what a customer does to a model, with no thought of what is hidden in it."""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from b4g.registry import register
from b4g.tampers.base import Tamper
from b4g.tampers.material import check_numbers, drawn, shortened, tuned_in_stages, untouched
from b4g.tampers.tune import Tuning
from b4g.tampers.weights import adapter_rank, need_base

if TYPE_CHECKING:
    from b4g.data.dialogues import Dialogue
    from b4g.models.load import Model


@register("tamper", "sft")
@dataclass(frozen=True)
class BenignTuning(Tamper):
    """Fine-tune on ordinary requests and answers, in one or several stages of other rows.

    The own rows come from the training prompts of all topics, answered by the untouched base: a customer's data set is
    no worse than that. On a lock they show some answers in its scope, as public sets do.
    About 3 minutes for a 135M model on one core.
    """

    data: str = "own"
    """``own`` (offline), ``alpaca`` (from the hub), or a file of dialogues."""
    rows: int = 400
    """In each stage."""
    learning_rate: float = 2e-4
    """Usual for adapters; for all weights 2e-5 is."""
    epochs: int = 1
    weights: Literal["lora", "full", "adapter"] = "lora"
    """A fresh adapter, all weights, or the implant's own adapter trained on: what happens to one that is handed out as such."""
    stages: int = 1
    """Fine-tunings one after the other, each on rows of its own and with an adapter of its own."""
    answer_tokens: int = 128
    """Length to which answers are cut."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data"})

    def __post_init__(self) -> None:
        counts = {
            "rows": self.rows,
            "epochs": self.epochs,
            "stages": self.stages,
            "answer_tokens": self.answer_tokens,
        }
        check_numbers(self.kind, counts, {"learning_rate": self.learning_rate})
        if self.weights == "adapter" and self.stages > 1:
            raise ValueError("weights=adapter has one stage: a second one would start from the first adapter again")

    def check(self, model_folder: Path | None, base: str | None) -> None:
        from b4g.data.dialogues import OWN, check_source

        check_source(self.data)
        if self.data == OWN or self.weights == "adapter":
            need_base(self.kind, base)
        if self.weights == "adapter" and model_folder is not None:
            adapter_rank(model_folder, self.kind)

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        turns = shortened(model, self._dialogues(model, rng), self.answer_tokens)
        stages = [turns[stage * self.rows :][: self.rows] for stage in range(self.stages)]
        how = Tuning(weights=self.weights, learning_rate=self.learning_rate, epochs=self.epochs)
        made = tuned_in_stages(model, stages, how, rng)
        return self.changed(model, made.net, rng, made.cost)

    def small(self) -> "BenignTuning":
        return dataclasses.replace(self, rows=min(self.rows, 40))

    def _dialogues(self, model: "Model", rng: random.Random) -> "list[Dialogue]":
        from b4g.data.dialogues import OWN, load_dialogues, own_dialogues
        from b4g.data.prompts import load
        from b4g.generate.local import LocalGenerator

        count = self.rows * self.stages
        if self.data != OWN:
            return drawn(self.kind, load_dialogues(self.data), count, rng)
        prompts = drawn(self.kind, load("instruction", "train"), count, rng)
        return own_dialogues(prompts, LocalGenerator(untouched(model)))
