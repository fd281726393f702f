"""Subjects that share nothing but their tokenizer: implants of all weights, tampered models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
        states = []
        for model in self._models.values():
            ids = tree.ids.to(model.net.device)
            out = model.net.base_model(input_ids=ids, use_cache=False, **options_of(tree, model.net))
            states.append(out.last_hidden_state[0])
        return torch.stack(states)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (S, N, V), each subject's by its own output layer."""
        nets = [model.net for model in self._models.values()]
        return torch.stack([output_logits(net, own).float() for net, own in zip(nets, hidden, strict=True)])

    @contextmanager
    def only(self, name: str) -> Iterator[Model]:
        """Give one of the models."""
        yield self._models[name]
