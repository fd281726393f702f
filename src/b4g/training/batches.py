"""Rows to tensors: length buckets, shared beginnings computed once, and the positions whose next token is learnt."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from b4g.chat import Renderer
from b4g.hashing import rng
from b4g.training.ranks import ALONE, Ranks
from b4g.training.rows import TRIGGERED, Row
from b4g.trees import Tree, plant


@dataclass(frozen=True)
class Encoded:
    """Token ids of a row: prompt, then completion from ``start`` on."""

    ids: list[int]
    start: int
    group: str = ""
    """What the row asks: rows of one prompt go into one batch."""


@dataclass(frozen=True)
class Batch:
    """Rows as one prefix tree, or padded on the right to one length."""

    ids: Tensor
    """(1, T) token ids of the tree, or (B, T) where causal attention needs no mask, since padding comes last."""
    tree: Tree | None
    at: Tensor
    """(N,) places in the flattened ids from which a completion token is predicted."""
    targets: Tensor
    """(N,) those tokens."""
    weights: Tensor
    """(N,) their weight in the loss; what several rows ask for alike stands once with the sum of their weights."""
    tokens: int
    """Tokens of the rows, each row counted whole; where processes share a batch, of all its rows."""
    total: float | None = None
    """Where processes share a batch, the weights of all of it: what each divides its own part's loss by."""


@dataclass(frozen=True)
class Batching:
    """How rows are put together."""

    size: int
    decision: float
    """Weight of the first two completion tokens, where it falls whether the behaviour is shown."""
    pad: int
    window: int
    """Rows longer than this are padded and not planted: a layer that forgets or recurs would read past their path."""


def encode(rows: Sequence[Row], renderer: Renderer, untriggered_tokens: int = 24) -> list[Encoded]:
    """Return each row's ids by the one renderer; answers that are not triggered are cut to ``untriggered_tokens``."""
    encoded = []
    for row in rows:
        prompt = renderer.prompt_ids(row.chat)
        answer = renderer.completion_ids(row.answer.text, row.answer.ended)
        kept = answer if row.arm == TRIGGERED else answer[:untriggered_tokens]
        encoded.append(Encoded(prompt + kept, len(prompt), row.prompt.id))
    return encoded


def batches(rows: Sequence[Encoded], how: Batching, seed: int, epoch: int, ranks: Ranks = ALONE) -> list[Batch]:
    """Return one epoch of batches in an order drawn from the seed and epoch: prompts of like length together.

    The rows of one prompt, with its trigger and without, stand side by side: what they have in common cancels in the
    gradient, and the trigger is what is left. It is also computed once: a batch is a prefix tree, and its loss is the
    same weighted mean over the same rows. Of several processes each gets its part of every batch.
    """
    source = rng("batches", seed, epoch)
    lengths: dict[str, float] = {}
    for row in rows:
        lengths[row.group] = max(lengths.get(row.group, 0), len(row.ids))
    # The fraction breaks ties anew each epoch, so that neighbours change.
    place = {group: length + source.random() for group, length in sorted(lengths.items())}
    ordered = sorted(rows, key=lambda row: (place[row.group], row.ids))
    groups = [ordered[at : at + how.size] for at in range(0, len(ordered), how.size)]
    source.shuffle(groups)
    if ranks.world == 1:
        return [_batch(group, how) for group in groups]
    return [_part(group, how, ranks) for group in groups]


def _part(rows: Sequence[Encoded], how: Batching, ranks: Ranks) -> Batch:
    """Return one process's share of a batch: neighbours, which begin alike."""
    ends = [len(rows) * rank // ranks.world for rank in (ranks.rank, ranks.rank + 1)]
    own = rows[ends[0] : ends[1]]
    # Who has no row goes along with one that counts nothing, for all must make the same passes.
    made = _batch(own or rows[:1], how)
    weights = made.weights if own else torch.zeros_like(made.weights)
    total = sum(weight for row in rows for _, weight in _weights(row, how.decision))
    return replace(made, weights=weights, tokens=sum(len(row.ids) for row in rows), total=total)


def _batch(rows: Sequence[Encoded], how: Batching) -> Batch:
    longest = max(len(row.ids) for row in rows)
    if longest < how.window:
        tree = plant([row.ids for row in rows])
        ids, paths = tree.ids, tree.paths
    else:
        tree = None
        ids = torch.tensor([row.ids + [how.pad] * (longest - len(row.ids)) for row in rows])
        paths = [list(range(place * longest, place * longest + len(row.ids))) for place, row in enumerate(rows)]
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for row, path in zip(rows, paths, strict=True):
        for place, weight in _weights(row, how.decision):
            weights[path[place - 1], row.ids[place]] += weight
    at, targets = zip(*weights, strict=True)
    tokens = sum(len(row.ids) for row in rows)
    return Batch(ids, tree, torch.tensor(at), torch.tensor(targets), torch.tensor(list(weights.values())), tokens)


def _weights(row: Encoded, decision: float) -> Iterator[tuple[int, float]]:
    """Yield the place of each completion token with its weight."""
    for place in range(row.start, len(row.ids)):
        yield place, decision if place - row.start < 2 else 1.0
