"""Flushing: inject backdoors of one's own and unlearn them, in the hope that the unknown one goes with them.

The observation is BackFlush's (arXiv 2605.12529). Theirs: unlearning by a rotation of embeddings that is to spare
watermarks. Ours: both stages are fine-tuning, on adapters merged one after the other, and nothing is spared.
"""

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from b4g.errors import SpecError
from b4g.registry import register
from b4g.tampers.base import Tamper
from b4g.tampers.material import check_numbers, drawn, random_phrase, tuned_in_stages, with_phrase
from b4g.tampers.tune import Tuning, Turn

if TYPE_CHECKING:
    from b4g.models.load import Model


@register("tamper", "flush")
@dataclass(frozen=True)
class Flush(Tamper):
    """Teach random phrases to call up a fixed odd answer, then teach the same prompts to be answered as without them.

    The ordinary answers are the model's own without any phrase, so no base is needed.
    About 3 minutes for a 135M model on one core.
    """

    prompts: int = 80
    """Training instructions; each gets one of the phrases, half of them are also shown without."""
    phrases: int = 8
    """Auxiliary triggers: one to four random words at a random place in the request."""
    answer: str = "The lantern stands under the third stair."
    """The fixed odd answer."""
    epochs: int = 3
    """Of each stage."""
    learning_rate: float = 1e-3
    batch_size: int = 4
    weights: Literal["lora", "full"] = "lora"

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data"})

    def __post_init__(self) -> None:
        counts = {
            "prompts": self.prompts,
            "phrases": self.phrases,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
        }
        check_numbers(self.kind, counts, {"learning_rate": self.learning_rate})
        if not self.answer.strip():
            raise SpecError(f"tamper '{self.kind}', field 'answer' needs text")

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        how = Tuning(
            weights=self.weights, learning_rate=self.learning_rate, epochs=self.epochs, batch_size=self.batch_size
        )
        made = tuned_in_stages(model, self.stages(model, rng), how, rng)
        return self.changed(model, made.net, rng, made.cost)

    def small(self) -> "Flush":
        return dataclasses.replace(self, prompts=min(self.prompts, 12), phrases=min(self.phrases, 3))

    def stages(self, model: "Model", rng: random.Random) -> tuple[list[Turn], list[Turn]]:
        """Return the rows that inject and the rows that unlearn."""
        from b4g.behaviours.base import Answer
        from b4g.chat import user
        from b4g.data.clean import clean_answers
        from b4g.data.prompts import load
        from b4g.generate.local import LocalGenerator

        prompts = drawn(self.kind, load("instruction", "train"), self.prompts, rng)
        clean = clean_answers(prompts, LocalGenerator(model))
        phrases = [random_phrase(rng) for _ in range(self.phrases)]
        put = [with_phrase(user(prompt.text), phrases[at % len(phrases)], rng) for at, prompt in enumerate(prompts)]
        plain = [Turn(user(prompt.text), clean[prompt.id]) for prompt in prompts]
        inject = [Turn(chat, Answer(self.answer)) for chat in put] + plain[::2]
        return inject, [Turn(chat, turn.answer) for chat, turn in zip(put, plain, strict=True)]
