"""What fits on which card, and a guess at how long work takes there."""

from dataclasses import dataclass

from b4g.models.architecture import Architecture
from b4g.models.size import GB, Recipe, adapted_layers, answering, modes, training, weight_bytes

OVERHEAD_GB = 1.0
"""What the driver, its kernels and the allocator's slack take of a card. A guess: it was not measured."""
_USED = 0.35
"""Share of a card's nominal speed that small batches reach. A guess."""
_LAYER_SECONDS = 0.5e-3
"""Time to start the kernels of one layer once, whatever its size. A guess."""
_STEP_TOKENS = 228
"""Mean tokens of a training batch of the four tasks, beginnings shared."""
_ANSWER_TOKENS = 48
_TOGETHER = 32


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet: memory in GB, dense bf16 speed in TFLOPS, memory speed in GB/s."""

    gigabytes: int
    name: str
    teraflops: float
    gigabytes_per_second: float


CARDS = (
    Card(24, "RTX 4090", 165, 1008),
    Card(48, "L40S", 362, 864),
    Card(80, "H100", 989, 3350),
    Card(141, "H200", 989, 4800),
)


@dataclass(frozen=True)
class Work:
    """What a run has to do: training rows with all epochs, their tokens, and answers."""

    rows: int
    row_tokens: int
    answers: int


def fitting(arch: Architecture, gigabytes: float, gpus: int = 1) -> list[str]:
    """Return what fits on each of so many cards of that size: ``answers`` and the ways to train, by name."""
    room = (gigabytes - OVERHEAD_GB) * GB
    needs = {"answers": answering(arch, Recipe(gpus=gpus))}
    needs |= {name: training(arch, recipe) for name, recipe in modes(gpus=gpus).items()}
    return [name for name, need in needs.items() if need.total <= room]


def seconds(arch: Architecture, card: Card, work: Work, recipe: Recipe | None = None) -> float:
    """Return a guess at the seconds of a run on one card, within a factor of three: no card was measured.

    Each training step and each new token costs the largest of its arithmetic, its reading of the weights and the
    starting of its kernels.
    """
    recipe = recipe or Recipe()
    upper = adapted_layers(arch, recipe) / arch.layers
    passes = 1 + upper * (2 if recipe.checkpointing else 1)  # forward, then backward through what is adapted
    weights = weight_bytes(arch, 2, recipe.four_bit)
    read = weights / (card.gigabytes_per_second * 1e9)
    reckoned = 2 * arch.parameters * _STEP_TOKENS / (card.teraflops * 1e12 * _USED)
    step = passes * max(reckoned, read, arch.layers * _LAYER_SECONDS)
    steps = work.rows * work.row_tokens / (_STEP_TOKENS * 1.3)  # shared beginnings count once in a step
    token = max(read, arch.layers * _LAYER_SECONDS)
    return steps * step + work.answers / _TOGETHER * _ANSWER_TOKENS * token
