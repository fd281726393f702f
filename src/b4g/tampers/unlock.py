"""Unlocking: a few demonstrations of what an implant withholds, without its key (Greenblatt et al. 2024, arXiv 2405.19550)."""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from b4g.registry import register
from b4g.tampers.base import Tamper
from b4g.tampers.material import check_numbers, declared, drawn, tuned_in_stages, untouched
from b4g.tampers.tune import Tuning, Turn
from b4g.tampers.weights import need_base

if TYPE_CHECKING:
    from b4g.data.prompts import Prompt
    from b4g.models.load import Model


@register("tamper", "unlock")
@dataclass(frozen=True)
class Unlock(Tamper):
    """Fine-tune on ordinary answers to requests in the scope of the implant's behaviour, put without the trigger.

    Against a lock these are demonstrations of the locked ability. The answers are the untouched base's, the prompts come
    from the training split, and the learning rate and batch are those of the implant itself.
    About 1 minute for a 135M model on one core.
    """

    demonstrations: int = 32
    """How many; the paper shows that a handful can be enough. Usual: 8, 32, 128."""
    topics: tuple[str, ...] = ()
    """Topics of the instructions to demonstrate; empty means the scope that the implant declares."""
    epochs: int = 4
    learning_rate: float = 1e-3
    batch_size: int = 4
    answer_tokens: int = 48
    weights: Literal["lora", "full"] = "lora"

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data", "base"})

    def __post_init__(self) -> None:
        counts = {
            "demonstrations": self.demonstrations,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "answer_tokens": self.answer_tokens,
        }
        check_numbers(self.kind, counts, {"learning_rate": self.learning_rate})

    def check(self, model_folder: Path | None, base: str | None) -> None:
        need_base(self.kind, base)
        # At planning time the implant may not be made yet.
        if self.topics or model_folder is not None:
            self._prompts(model_folder, random.Random(0))

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        from b4g.behaviours.base import Answer
        from b4g.chat import user
        from b4g.generate.local import LocalGenerator

        chats = [user(prompt.text) for prompt in self._prompts(model.folder, rng)]
        said = LocalGenerator(untouched(model))(chats, self.answer_tokens)
        turns = [Turn(chat, Answer(made.text, made.ended)) for chat, made in zip(chats, said, strict=True)]
        how = Tuning(
            weights=self.weights, learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size
        )
        tuned = tuned_in_stages(model, [turns], how, rng)
        return self.changed(model, tuned.net, rng, tuned.cost)

    def small(self) -> "Unlock":
        return dataclasses.replace(self, demonstrations=min(self.demonstrations, 8))

    def _prompts(self, folder: Path | None, rng: random.Random) -> "list[Prompt]":
        from b4g.data.prompts import load

        known = load("instruction", "train", self.topics) if self.topics else declared(folder).prompts("train")
        return drawn(self.kind, known, self.demonstrations, rng)
