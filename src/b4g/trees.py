"""Token sequences as a prefix tree: what several sequences begin with alike is computed once.

Under causal attention a token's state depends on its ancestors alone, so a tree gives each sequence the states it has by
itself. Prompts of a run share the chat template's opening, and the arms of a prompt share much more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """Sequences laid into one row of tokens, parents before children."""

    ids: Tensor
    """(1, T) token ids."""
    positions: Tensor
    """(1, T) depth of each token: its place in its own sequence."""
    mask: Tensor
    """(1, 1, T, T) True where the column is the row itself or one of its ancestors."""
    paths: list[list[int]]
    """For each sequence the places of its tokens."""

    def options(self, net: Any) -> dict[str, Tensor]:
        """Return what a transformers model needs beside the ids: the mask as numbers to add to scores, and positions."""
        mask = self.mask.to(net.device)
        added = torch.zeros(mask.shape, dtype=net.dtype, device=net.device)
        added = added.masked_fill(~mask, torch.finfo(net.dtype).min)
        return {"attention_mask": added, "position_ids": self.positions.to(net.device)}


def plant(sequences: Sequence[Sequence[int]]) -> Tree:
    """Return the prefix tree of token sequences."""
    children: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    parents: list[int] = []
    paths: list[list[int]] = []
    for sequence in sequences:
        at, path = -1, []
        for token in sequence:
            place = children.setdefault((at, token), len(ids))
            if place == len(ids):
                ids.append(token)
                parents.append(at)
            at = place
            path.append(at)
        paths.append(path)
    depths: list[int] = []
    seen = torch.eye(len(ids), dtype=torch.bool)
    for place, parent in enumerate(parents):
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
        if parent >= 0:
            seen[place] |= seen[parent]
    return Tree(torch.tensor([ids]), torch.tensor([depths]), seen[None, None], paths)


def forest(sequences: Sequence[Sequence[int]], most: int) -> Iterable[list[int]]:
    """Yield the places of sequences that go into one tree, in order, so that no tree has more than ``most`` tokens.

    A single longer sequence is a tree of its own. Neighbours share most where the sequences are sorted.
    """
    chosen: list[int] = []
    size = 0
    last: Sequence[int] = ()
    for place, sequence in enumerate(sequences):
        new = len(sequence) - _shared(last, sequence)
        if chosen and size + new > most:
            yield chosen
            chosen, size, new = [], 0, len(sequence)
        chosen.append(place)
        size, last = size + new, sequence
    if chosen:
        yield chosen


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
