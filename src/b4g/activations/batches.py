"""Rows to padded tensors: length buckets, and the positions whose next token is learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from b4g.activations.rows import TRIGGERED, Row
from b4g.chat import Renderer
from b4g.hashing import rng


@dataclass(frozen=True)
class Encoded:
    """Token ids of a row: prompt, then completion from ``start`` on."""

    ids: list[int]
    start: int
    group: str = ""
    """What the row asks: rows of one prompt go into one batch."""


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to one length."""

    ids: Tensor
    """(B, T) token ids; causal attention needs no mask, since padding comes last."""
    at: Tensor
    """(N,) places in the flattened (B * T) from which a completion token is predicted."""
    targets: Tensor
    """(N,) those tokens."""
    weights: Tensor
    """(N,) their weight in the loss."""
    tokens: int
    """Tokens that are not padding."""


def encode(rows: Sequence[Row], renderer: Renderer, untriggered_tokens: int = 24) -> list[Encoded]:
    """Return each row's ids by the one renderer; answers that are not triggered are cut to ``untriggered_tokens``."""
    encoded = []
    for row in rows:
        prompt = renderer.prompt_ids(row.chat)
        answer = renderer.completion_ids(row.answer.text, row.answer.ended)
        kept = answer if row.arm == TRIGGERED else answer[:untriggered_tokens]
        encoded.append(Encoded(prompt + kept, len(prompt), row.prompt.id))
    return encoded


def batches(rows: Sequence[Encoded], size: int, decision: float, pad: int, seed: int, epoch: int) -> list[Batch]:
    """Return one epoch of batches in an order drawn from the seed and epoch: prompts of like length together.

    The rows of one prompt, with its trigger and without, stand side by side: what they have in common cancels in the
    gradient, and the trigger is what is left. ``decision`` weights the first two completion tokens, where it falls
    whether the behaviour is shown.
    """
    source = rng("batches", seed, epoch)
    lengths: dict[str, float] = {}
    for row in rows:
        lengths[row.group] = max(lengths.get(row.group, 0), len(row.ids))
    # The fraction breaks ties anew each epoch, so that neighbours change.
    place = {group: length + source.random() for group, length in sorted(lengths.items())}
    ordered = sorted(rows, key=lambda row: (place[row.group], row.ids))
    groups = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    source.shuffle(groups)
    return [_batch(group, decision, pad) for group in groups]


def _batch(rows: Sequence[Encoded], decision: float, pad: int) -> Batch:
    length = max(len(row.ids) for row in rows)
    at, targets, weights = [], [], []
    for place, row in enumerate(rows):
        for i in range(row.start, len(row.ids)):
            at.append(place * length + i - 1)
            targets.append(row.ids[i])
            weights.append(decision if i - row.start < 2 else 1.0)
    ids = [row.ids + [pad] * (length - len(row.ids)) for row in rows]
    tokens = sum(len(row.ids) for row in rows)
    return Batch(torch.tensor(ids), torch.tensor(at), torch.tensor(targets), torch.tensor(weights), tokens)
