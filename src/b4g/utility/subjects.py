"""Subjects: base, control and implant side by side; a text is put to all of them in one pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from b4g.generate.base import Completion, Decided, Progress
from b4g.generate.local import LocalGenerator, trees
from b4g.models.load import Model, check_renderer, load_implant, load_model
from b4g.trees import Tree

BASE = "base"


class Pair(NamedTuple):
    """A context and what may follow it, as token ids; the continuation is never empty."""

    context: list[int]
    continuation: list[int]


class Likelihood(NamedTuple):
    """How likely a continuation is after its context."""

    logprob: float
    """Sum over its tokens, in nats."""
    greedy: bool
    """Whether each of its tokens is the likeliest."""


class Subjects:
    """Several models of one tokenizer, the base first; every reading gives one result a subject."""

    def __init__(self, base: Model, names: Sequence[str], identity: str) -> None:
        self.base = base
        self.tokenizer, self.renderer = base.tokenizer, base.renderer
        self.names: tuple[str, ...] = tuple(names)
        self.identity = identity
        """Hash of the models and their number format."""

    def read(self, tree: Tree) -> Tensor:
        """Return the final hidden states (S, T, D) of a tree's tokens, a row a subject in the order of ``names``."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (S, N, V), in fp32, of hidden states (S, N, D)."""
        raise NotImplementedError

    def only(self, name: str) -> AbstractContextManager[Model]:
        """Give one subject as a model of its own."""
        raise NotImplementedError

    @property
    def max_tokens(self) -> int:
        """The model's context length in tokens."""
        return int(getattr(self.base.net.config.get_text_config(), "max_position_embeddings", 2048))

    def trees(self, sequences: Sequence[list[int]]) -> Iterator[tuple[list[int], Tree]]:
        """Yield the places of sequences that are read together, and their tree."""
        return trees(self.base.net, sequences)

    def loglikelihoods(self, pairs: Sequence[Pair], progress: Progress | None = None) -> dict[str, list[Likelihood]]:
        """Return for each subject the likelihood of each pair, in order; all subjects read in the same pass."""
        from b4g.utility.likelihood import loglikelihoods

        return loglikelihoods(self, pairs, progress)

    def generate(
        self,
        name: str,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one subject's greedy completions of prompts given as token ids."""
        with self.only(name) as model:
            return LocalGenerator(model).complete(prompts, max_new_tokens, decided, progress)


def load_subjects(base: str, folders: Mapping[str, Path], dtype: str = "auto", any_renderer: bool = False) -> Subjects:
    """Return a base and the implants of some folders, by subject name; raises `ModelError` where one does not fit.

    Adapters share the base's weights; an implant of all weights is loaded beside it.
    """
    from b4g.api import read_implant
    from b4g.utility.shared import Shared
    from b4g.utility.whole import Whole

    model = load_model(base, dtype=dtype)
    for folder in folders.values():
        check_renderer(read_implant(folder), model, any_renderer)
    if all((folder / "adapter_config.json").is_file() for folder in folders.values()):
        return Shared(model, folders, checked=not any_renderer)
    return Whole(model, {name: load_implant(base, at, dtype, not any_renderer) for name, at in folders.items()})


def options_of(tree: Tree, net: Any) -> dict[str, Tensor]:
    """Return what a transformers model needs to read a tree: nothing beside the ids where it is a single text."""
    return {} if len(tree.paths) == 1 else tree.options(net)
