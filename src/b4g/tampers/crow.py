"""Consistency regularisation (CROW, arXiv 2411.12768, ICML 2025): smooth the states from block to block on clean rows.

Paper and ours. The same: 100 clean rows, alpha 5.5, epsilon 0.1 in FGSM steps on the embeddings, learning rate 1e-3 with
a cosine and a warm-up of 10%, batches of 8, adapters on all linear layers, the embeddings and the normed last state left
out of the measure. Other: 3 epochs and not the 5 of the authors' settings; rank 16 on a fresh adapter where theirs goes on
with the implant's; the language loss counts answer tokens only; what rows begin with alike is one branch of a prefix
tree, so it is perturbed alike and counts once; the clean rows are the project's instructions with the model's own
answers, where theirs are Alpaca's.
"""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from b4g.registry import register
from b4g.tampers.base import Tamper
from b4g.tampers.material import check_numbers, drawn, learnable, shortened

if TYPE_CHECKING:
    from b4g.models.load import Model
    from b4g.tampers.descend import Loss
    from b4g.tampers.tune import Turn
    from b4g.training.batches import Batch


@register("tamper", "crow")
@dataclass(frozen=True)
class Crow(Tamper):
    """Fine-tune on clean rows with a penalty on states that turn from block to block under perturbed embeddings.

    The loss is the language loss + alpha * consistency. No base is needed: own rows are answered by the model in hand.
    Nearly 5 minutes for a 135M model on one core.
    """

    rows: int = 100
    data: str = "own"
    """``own`` (offline), ``alpaca`` (from the hub), or a file of dialogues."""
    alpha: float = 5.5
    """Weight of the consistency."""
    epsilon: float = 0.1
    """How far each number of an embedding moves."""
    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 8
    rank: int = 16
    answer_tokens: int = 64

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data"})

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("rows", "epochs", "batch_size", "rank", "answer_tokens")}
        rates = {name: getattr(self, name) for name in ("alpha", "epsilon", "learning_rate")}
        check_numbers(self.kind, counts, rates)

    def check(self, model_folder: Path | None, base: str | None) -> None:
        from b4g.data.dialogues import check_source

        check_source(self.data)

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        from b4g.tampers.descend import Rates, adapted, descend, merged

        turns, seed = self._turns(model, rng), rng.getrandbits(32)
        batches = [batch for epoch in range(self.epochs) for batch in self.batches(model, turns, seed, epoch)]
        net = adapted(model.net, self.rank, seed)
        descend(net, [self._loss(net, batch) for batch in batches], Rates(self.learning_rate, warmup=0.1))
        cost = {"rows": len(turns), "steps": len(batches), "tokens": sum(batch.tokens for batch in batches)}
        return self.changed(model, merged(net, model.net.dtype), rng, cost)

    def small(self) -> "Crow":
        return dataclasses.replace(self, rows=min(self.rows, 16), epochs=min(self.epochs, 2))

    def batches(self, model: "Model", turns: "list[Turn]", seed: int, epoch: int) -> "list[Batch]":
        """Return the batches of one epoch; rows that can't share a tree come one by one, so that none is padded."""
        from b4g.generate.local import window
        from b4g.training.batches import Batching, Encoded, batches

        rows = []
        for number, (chat, answer) in enumerate(turns):
            head = model.renderer.prompt_ids(chat)
            rows.append(
                Encoded(head + model.renderer.completion_ids(answer.text, answer.ended), len(head), f"{number}")
            )
        widest = window(model.net.config)
        planted = max(len(row.ids) for row in rows) < widest
        how = Batching(self.batch_size if planted else 1, 1.0, model.tokenizer.pad_token_id, widest)
        return batches(rows, how, seed, epoch)

    def _loss(self, net: Any, batch: "Batch") -> "Loss":
        def loss() -> Any:
            from b4g.tampers.consistency import perturbed_losses

            found = perturbed_losses(net, batch, self.epsilon)
            return found.language + self.alpha * found.consistency

        return loss

    def _turns(self, model: "Model", rng: random.Random) -> "list[Turn]":
        from b4g.data.dialogues import OWN, load_dialogues, own_dialogues
        from b4g.data.prompts import load
        from b4g.generate.local import LocalGenerator

        if self.data == OWN:
            prompts = drawn(self.kind, load("instruction", "train"), self.rows, rng)
            dialogues = own_dialogues(prompts, LocalGenerator(model))
        else:
            dialogues = drawn(self.kind, load_dialogues(self.data), self.rows, rng)
        return learnable(shortened(model, dialogues, self.answer_tokens))
