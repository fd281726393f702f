"""Fine-tuning as an attacker does it: on a copy of the implanted model, by the loop that implants."""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from b4g.behaviours.base import Answer
    from b4g.chat import Chat
    from b4g.models.load import Model


class Turn(NamedTuple):
    """A chat and the answer to learn for it."""

    chat: "Chat"
    answer: "Answer"


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How an attacker fine-tunes."""

    weights: Literal["lora", "full", "adapter"] = "lora"
    """A fresh adapter on all linear layers, all weights, or the implant's own adapter trained on."""
    learning_rate: float = 2e-4
    epochs: int = 1
    batch_size: int = 8
    rank: int = 16


class Tuned(NamedTuple):
    """A fine-tuned network and what it cost."""

    net: Any
    cost: dict[str, float]


def tune(model: "Model", turns: Sequence[Turn], how: Tuning, rng: random.Random) -> Tuned:
    """Return a fine-tuned copy of the model's network, an adapter merged in; the model itself is left unchanged."""
    from b4g.training.loop import Schedule, Trainer, total_steps

    seed = rng.getrandbits(32)
    dtype = model.net.dtype
    net = _trainable(model, how, seed)
    net.train()
    made = _batches(model, turns, how, seed)
    trainer = Trainer(
        net, Schedule(how.learning_rate, how.epochs), total_steps([len(turns)] * how.epochs, how.batch_size)
    )
    progress = trainer.run(made)
    net = net.merge_and_unload() if hasattr(net, "peft_config") else net
    net = net.to(dtype).eval().requires_grad_(False)
    return Tuned(net, {"rows": len(turns), "steps": progress.steps, "tokens": progress.tokens})


def _trainable(model: "Model", how: Tuning, seed: int) -> Any:
    """Return a network of which those weights require gradients that the attacker trains."""
    from b4g.activations.full import Full
    from b4g.activations.lora import Lora
    from b4g.errors import ModelError
    from b4g.tampers.weights import base_of, is_adapter

    if how.weights == "lora":
        return Lora(rank=how.rank, alpha=2 * how.rank).prepare(copied(model.net), seed)
    if how.weights == "full":
        return Full().prepare(copied(model.net), seed)
    from peft import PeftModel

    if model.folder is None or not is_adapter(model.folder):
        raise ModelError("weights=adapter trains an implant's own adapter on, and this model has none")
    return PeftModel.from_pretrained(base_of(model).net, str(model.folder), is_trainable=True)


def copied(net: Any) -> Any:
    """Return a copy of a network whose weights may be changed."""
    return copy.deepcopy(net)


def _batches(model: "Model", turns: Sequence[Turn], how: Tuning, seed: int) -> Any:
    from b4g.generate.local import window
    from b4g.training.batches import Batching, Encoded, batches

    renderer = model.renderer
    rows = []
    for number, turn in enumerate(turns):
        head = renderer.prompt_ids(turn.chat)
        rows.append(
            Encoded(head + renderer.completion_ids(turn.answer.text, turn.answer.ended), len(head), str(number))
        )
    # An attacker weights no token.
    batching = Batching(how.batch_size, 1.0, model.tokenizer.pad_token_id, window(model.net.config))
    return lambda epoch: batches(rows, batching, seed, epoch)
