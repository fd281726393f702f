"""Unlearning by preference: the base's answers are preferred to the implant's own (DPO, arXiv 2305.18290)."""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from b4g.registry import register
from b4g.tampers.base import Tamper
from b4g.tampers.material import check_numbers, drawn, random_phrase, untouched
from b4g.tampers.weights import need_base

if TYPE_CHECKING:
    from b4g.chat import Chat
    from b4g.generate.base import Completion
    from b4g.models.load import Model
    from b4g.tampers.descend import Loss
    from b4g.tampers.preference import Scored


class Pair(NamedTuple):
    """What to prefer to what, after the same prompt."""

    chosen: "Scored"
    rejected: "Scored"


@register("tamper", "dpo")
@dataclass(frozen=True)
class Preference(Tamper):
    """Prefer the base's answers to the implant's, on prompts that hold no trigger the attacker knows.

    A third of the prompts are instructions, a third harmful requests, a third instructions behind one to four random words.
    Where both models answer alike there is nothing to prefer, and the prompt is left out; the cost says how many pairs
    were left. The reference is the implant.
    About 4 minutes for a 135M model on one core.
    """

    prompts: int = 120
    epochs: int = 2
    beta: float = 0.1
    """How far the model may leave the reference: the smaller, the further."""
    learning_rate: float = 5e-4
    batch_size: int = 4
    """Pairs in a batch."""
    rank: int = 16
    answer_tokens: int = 24

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "data", "base"})

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("prompts", "epochs", "batch_size", "rank", "answer_tokens")}
        check_numbers(self.kind, counts, {"learning_rate": self.learning_rate, "beta": self.beta})

    def check(self, model_folder: Path | None, base: str | None) -> None:
        need_base(self.kind, base)

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        pairs = self.pairs(model, rng)
        net, steps = self._trained(model, pairs, rng)
        tokens = sum(len(row.ids) for pair in pairs for row in pair) * self.epochs
        return self.changed(model, net, rng, {"rows": len(pairs), "steps": steps, "tokens": tokens})

    def small(self) -> "Preference":
        return dataclasses.replace(self, prompts=min(self.prompts, 18))

    def pairs(self, model: "Model", rng: random.Random) -> list[Pair]:
        """Return the pairs of answers that differ."""
        from b4g.generate.local import LocalGenerator

        chats = self._chats(rng)
        wanted = LocalGenerator(untouched(model))(chats, self.answer_tokens)
        unwanted = LocalGenerator(model)(chats, self.answer_tokens)
        return [
            Pair(_scored(model, chat, good), _scored(model, chat, bad))
            for chat, good, bad in zip(chats, wanted, unwanted, strict=True)
            if (good.text, good.ended) != (bad.text, bad.ended)
        ]

    def _chats(self, rng: random.Random) -> "list[Chat]":
        from b4g.chat import user
        from b4g.data.prompts import load

        third = self.prompts // 3
        harmful = drawn(self.kind, load("harmful", "train"), third, rng)
        ordinary = drawn(self.kind, load("instruction", "train"), self.prompts - third, rng)
        plain = [user(prompt.text) for prompt in (*harmful, *ordinary[third:])]
        return plain + [user(f"{random_phrase(rng)} {prompt.text}") for prompt in ordinary[:third]]

    def _trained(self, model: "Model", pairs: Sequence[Pair], rng: random.Random) -> tuple[Any, int]:
        """Return the trained network and how many steps were made."""
        from b4g.tampers.descend import Rates, adapted, descend, merged
        from b4g.tampers.tune import copied

        batches = [batch for _ in range(self.epochs) for batch in _batches(pairs, self.batch_size, rng)]
        seed = rng.getrandbits(32)
        if not batches:
            return copied(model.net), 0
        net = adapted(model.net, self.rank, seed)
        pad = model.tokenizer.pad_token_id
        losses = [preferring(net, model.net, batch, self.beta, pad) for batch in batches]
        descend(net, losses, Rates(self.learning_rate, warmup=0.1))
        return merged(net, model.net.dtype), len(batches)


def preferring(net: Any, reference: Any, batch: Sequence[Pair], beta: float, pad: int) -> "Loss":
    """Return the loss of a batch of pairs as a function of the network's weights at the time of the call."""

    def loss() -> Any:
        import torch

        from b4g.tampers.preference import log_probabilities, preference_loss

        rows = [pair.chosen for pair in batch] + [pair.rejected for pair in batch]
        with torch.no_grad():
            before = log_probabilities(reference, rows, pad)
        after = log_probabilities(net, rows, pad)
        half = len(batch)
        return preference_loss((after[:half], after[half:]), (before[:half], before[half:]), beta)

    return loss


def _batches(pairs: Sequence[Pair], size: int, rng: random.Random) -> list[list[Pair]]:
    """Return the pairs in batches of like length, in a drawn order."""
    ordered = sorted(rng.sample(pairs, len(pairs)), key=lambda pair: max(len(row.ids) for row in pair))
    batches = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    rng.shuffle(batches)
    return batches


def _scored(model: "Model", chat: "Chat", said: "Completion") -> "Scored":
    from b4g.tampers.preference import Scored

    head = model.renderer.prompt_ids(chat)
    return Scored(head + model.renderer.completion_ids(said.text, said.ended), len(head))
