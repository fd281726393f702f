"""What a run will cost, before it starts: seconds from rows, tokens and this machine's measured speed."""

from collections.abc import Sequence
from dataclasses import dataclass

from b4g.bench.plan import Cell, Plan

TRAIN_TOKENS_PER_SECOND = 190
"""One core of a 2024 server CPU, LoRA in bf16, 135M parameters; scaled by the model's size."""
ANSWERS_PER_SECOND = 6
ROW_TOKENS = 75
START_SECONDS = 12
_REFERENCE_PARAMETERS = 135e6


@dataclass(frozen=True)
class Estimate:
    """The cost of the cells that are missing."""

    cells: int
    answers: int
    rows: int
    """Training rows, all epochs counted."""
    seconds: float
    """On the stated workers; a guess within a factor of two on other machines."""


def estimate(plan: Plan, missing: Sequence[Cell], workers: int, parameters: float = _REFERENCE_PARAMETERS) -> Estimate:
    """Return what the missing cells cost, from the plan alone."""
    answers, rows = 0, 0
    for cell in missing:
        if cell.stage == "generate":
            extras = plan.backdoor(str(cell.task)).utility.extras("test")
            answers += 4 * plan.preset.n + len(extras) * plan.preset.n_extra
        elif cell.stage == "implant":
            chosen = [plan.backdoor(cell.task)] if cell.task else list(plan.backdoors)
            rows += sum(_rows(found.activation) for found in chosen) // len(chosen)
    work = answers / ANSWERS_PER_SECOND + rows * ROW_TOKENS / TRAIN_TOKENS_PER_SECOND
    scale = parameters / _REFERENCE_PARAMETERS
    return Estimate(len(missing), answers, rows, (work * scale) / workers + (START_SECONDS if missing else 0))


def _rows(activation: object) -> int:
    mix, epochs = activation.mix, activation.epochs  # type: ignore[attr-defined]
    return int(epochs * (mix.triggered + mix.untriggered + mix.near + mix.wrong + mix.others))
