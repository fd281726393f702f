"""Drift of serving: the sampling and the system prompt of whoever runs the model, its weights as they are."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from b4g.generate.base import Generator
    from b4g.models.load import Model


@register("tamper", "decoding")
@dataclass(frozen=True)
class Decoding(Tamper):
    """Serve the model as an ordinary server would: sampled, repetition penalised, behind a system prompt.

    A chat's draws depend on the seed and on the chat alone: asked again, it gets the same answer. At temperature 0 with
    nothing else set the answers are the greedy ones. Takes as long as they do: 8 short answers a second from 135M
    weights on one core.
    """

    temperature: float = 0.7
    """0 takes the likeliest token."""
    top_p: float = 0.95
    """Smallest share of the probability that the tokens to draw from hold together; 1 means all tokens."""
    repetition_penalty: float = 1.0
    """Divides the score of a token that the prompt or the answer holds already (arXiv 1909.05858); 1 means none."""
    system: str = ""
    """A system prompt, put before the chat's own where it has one."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Whoever serves the model does this unknowingly."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie above 0 and up to 1, not {self.top_p}")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be above 0, not {self.repetition_penalty}")

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        return self.changed(model, model.net, rng)

    def serve(self, model: "Model") -> "Generator":
        from b4g.generate.sampled import SampledGenerator, Sampling

        # The identity that `apply` gave holds the draw from its generator.
        how = Sampling(self.temperature, self.top_p, self.repetition_penalty, seed=str(model.adapter))
        return SampledGenerator(model, how, self.system)
