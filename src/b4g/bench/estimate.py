"""What a run will cost, before it starts: seconds from rows, tokens and this machine's measured speed."""

from collections.abc import Sequence
from dataclasses import dataclass

from b4g.activations.base import Activation
from b4g.bench.plan import Cell, Plan

TRAIN_TOKENS_PER_SECOND = 300
"""One core of a 2024 server CPU, LoRA in bf16, 135M parameters; scaled by the model's size."""
ANSWERS_PER_SECOND = 7
ITEMS_PER_SECOND = 4
"""Quick utility of base, control and implant together, the divergence counted in."""
ROW_TOKENS = 75
TAMPER_ROWS = 100
"""Training rows that stand for a tamper of middling cost."""
SCAN_ANSWERS = 120
"""Answers that stand for a scanner of middling cost."""
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
    answers, rows, items = 0, 0, 0
    for cell in missing:
        if cell.stage == "generate":
            extras = plan.backdoor(str(cell.task)).utility.extras("test")
            answers += 4 * plan.preset.n + len(extras) * plan.preset.n_extra
        elif cell.stage == "implant":
            chosen = [plan.backdoor(cell.task)] if cell.task else list(plan.backdoors)
            rows += sum(_rows(found.activation) for found in chosen) // len(chosen)
        elif cell.stage == "utility":
            items += plan.preset.n_items
        elif cell.stage == "tamper":
            answers += 2 * plan.preset.n_tamper
            items += 3 * plan.preset.n_tamper
            rows += TAMPER_ROWS
        elif cell.stage == "scan":
            answers += SCAN_ANSWERS
        elif cell.stage == "stealth" and plan.extra.stealth:
            size = plan.extra.stealth
            answers += {"accident": size.accident, "confidentiality": size.guesses + 13 * size.n + 60}.get(
                cell.part, 16 * size.n
            )
    work = answers / ANSWERS_PER_SECOND + rows * ROW_TOKENS / TRAIN_TOKENS_PER_SECOND + items / ITEMS_PER_SECOND
    scale = parameters / _REFERENCE_PARAMETERS
    return Estimate(len(missing), answers, rows, (work * scale) / workers + (START_SECONDS if missing else 0))


def _rows(activation: Activation) -> int:
    return activation.epochs * activation.mix.rows
