"""What every activation is: how the association gets into the weights, by which rows and how long."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from b4g.training.rows import Mix


@dataclass(frozen=True, kw_only=True)
class Activation:
    """Make part of a model trainable; the implant loop does the rest. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]

    learning_rate: float = 1e-3
    epochs: int = 4
    """At most; validation may stop it earlier."""
    batch_size: int = 4
    """Small: how many steps are made matters more than how many rows are in each (docs/log.md)."""
    decision_weight: float = 10.0
    """Weight of the first two completion tokens in the loss."""
    untriggered_tokens: int = 12
    """Length to which answers that do not show the behaviour are cut: they are the model's own, little is to be learnt."""
    mix: Mix = field(default_factory=Mix)
    checkpoint_steps: int = 50

    def __post_init__(self) -> None:
        for name in (
            "learning_rate",
            "epochs",
            "batch_size",
            "decision_weight",
            "untriggered_tokens",
            "checkpoint_steps",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    def prepare(self, net: Any, seed: int) -> Any:
        """Return the network to train, with ``requires_grad`` on what may change."""
        raise NotImplementedError
