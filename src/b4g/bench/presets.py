"""How much is measured and how long is trained: `quick` and `standard`."""

import dataclasses
from dataclasses import dataclass

from b4g.activations.base import Activation
from b4g.errors import SpecError, unknown
from b4g.training.rows import Mix


@dataclass(frozen=True)
class Preset:
    """Sizes of a run."""

    name: str
    n: int
    """Test prompts in each of the four arms."""
    n_extra: int
    """Test prompts in each further arm."""
    rows: float = 1.0
    """Share of the specification's rows."""
    n_items: int = 200
    """Multiple-choice items of the quick measure of clean performance."""
    n_texts: int = 60
    """Clean answers on which the divergence from the base is measured."""
    n_tamper: int = 40
    """Test prompts with and without the trigger after each tamper; twice as many items."""
    shared_control: bool = False
    """One control for all tasks, trained on a share of each one's rows, in place of one control a task.

    It and the implants then run every epoch: none stops early on validation prompts.
    """

    def scaled(self, activation: Activation) -> Activation:
        """Return the activation with its rows cut to this preset's share."""
        if self.rows == 1.0:
            return activation
        counts = {f.name: max(1, round(getattr(activation.mix, f.name) * self.rows)) for f in dataclasses.fields(Mix)}
        return dataclasses.replace(activation, mix=Mix(**counts))


PRESETS = {
    "quick": Preset("quick", n=40, n_extra=16, rows=0.36, n_items=100, n_texts=30, shared_control=True),
    "standard": Preset("standard", n=100, n_extra=60),
    "tiny": Preset("tiny", n=4, n_extra=2, rows=0.05, n_items=8, n_texts=3, n_tamper=4),
}


def preset(name: str) -> Preset:
    """Return the preset of that name, or raise `SpecError` with the near names."""
    if name not in PRESETS:
        raise SpecError(unknown("preset", name, PRESETS))
    return PRESETS[name]
