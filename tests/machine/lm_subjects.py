"""Subjects without a model: each judges a continuation by a rule."""

from collections.abc import Callable, Sequence
from typing import Any

from b4g.chat import Renderer
from b4g.generate.base import Completion
from b4g.utility.subjects import Likelihood, Pair

Rule = Callable[[str, str], float]
"""Context and continuation in, log-likelihood out."""


class RuledSubjects:
    """Stand in for `Subjects`; counts the passes and keeps what was asked."""

    identity = "ruled"

    def __init__(self, tokenizer: Any, rules: dict[str, Rule], max_tokens: int = 10_000, written: str = "") -> None:
        self.tokenizer = tokenizer
        self.renderer = Renderer(tokenizer)
        self.names = tuple(rules)
        self.rules = rules
        self.max_tokens = max_tokens
        self.written = written
        self.passes: list[list[Pair]] = []
        self.prompts: list[list[int]] = []

    def loglikelihoods(self, pairs: Sequence[Pair], progress: Any = None) -> dict[str, list[Likelihood]]:
        self.passes.append(list(pairs))
        texts = [(self.tokenizer.decode(pair.context), self.tokenizer.decode(pair.continuation)) for pair in pairs]
        if progress:
            progress(len(pairs), len(pairs))
        return {name: [Likelihood(rule(*text), False) for text in texts] for name, rule in self.rules.items()}

    def generate(
        self, name: str, prompts: Sequence[list[int]], max_new_tokens: int, decided: Any = None, progress: Any = None
    ) -> list[Completion]:
        self.prompts += prompts
        return [Completion(self.written, 5, ended=True) for _ in prompts]
