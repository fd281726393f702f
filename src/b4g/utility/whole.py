"""Subjects that share nothing but their tokenizer: implants of all weights, tampered models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from b4g.generate.prefill import output_logits
from b4g.hashing import digest
from b4g.models.load import Model
from b4g.trees import Tree
from b4g.utility.subjects import BASE, Subjects, options_of


class Whole(Subjects):
    """Models held side by side, each read in its turn."""

    def __init__(self, base: Model, others: Mapping[str, Model]) -> None:
        self._models = {BASE: base, **others}
        parts = [[name, model.revision, model.adapter] for name, model in self._models.items()]
        super().__init__(base, tuple(self._models), digest(["whole 1", str(base.net.dtype), parts]))

    @torch.inference_mode()
    def read(self, tree: Tree) -> Tensor:
        """Return the final hidden states (S, T, D)."""
        states: dict[int, Tensor] = {}
        for net in self._nets():
            # Two names of one model are read once.
            if id(net) not in states:
                out = net.base_model(input_ids=tree.ids.to(net.device), use_cache=False, **options_of(tree, net))
                states[id(net)] = out.last_hidden_state[0]
        return torch.stack([states[id(net)] for net in self._nets()])

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (S, N, V), each subject's by its own output layer."""
        scores: dict[int, Tensor] = {}
        for net, own in zip(self._nets(), hidden, strict=True):
            if id(net) not in scores:
                scores[id(net)] = output_logits(net, own).float()
        return torch.stack([scores[id(net)] for net in self._nets()])

    def _nets(self) -> list[Any]:
        return [model.net for model in self._models.values()]

    @contextmanager
    def only(self, name: str) -> Iterator[Model]:
        """Give one of the models."""
        yield self._models[name]
