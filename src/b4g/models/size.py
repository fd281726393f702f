"""How much memory a model takes to answer and to be trained, from its architecture alone.

The terms follow what this package's loop and generator keep: see docs/models.md for how each was checked.
Sizes are bytes; a GB is 10^9 of them.
"""

from dataclasses import dataclass, replace
from typing import Literal

from b4g.models.architecture import Architecture

GB = 1e9
_FLOAT = 4
"""Bytes of an fp32 number: normalisations, scores, losses, the optimiser's copies."""
NF4_BITS = 4.127
"""Bits a weight in NF4 with doubly quantised scales (QLoRA, arXiv 2305.14314): 4 + 8/64 + 32/(64 * 256)."""
MOST_SCORES = 512 * 512
"""Query times key positions above which our CPU attention leaves the work to torch's fused kernel."""
_LOGITS = 12
"""Bytes a logit at the loss: three fp32 tables are alive at once."""

Attention = Literal["grouped", "fused", "eager"]
"""Which intermediate results attention keeps: our CPU kernel's, a fused GPU kernel's, or those of plain products."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, on how much at once; the default is that of the four tasks."""

    rows: int = 4
    length: int = 128
    """Tokens of a row. The largest batch of the four tasks has 526 tokens in all, beginnings shared (docs/models.md)."""
    answer: int = 24
    """Tokens of a row that are learnt."""
    rank: int = 16
    upper: float = 0.6
    targets: tuple[str, ...] = ()
    """Adapted linear maps; empty means all."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass."""
    whole: bool = False
    """Whether all weights are trained in place of an adapter."""
    width: int = 2
    """Bytes of a number: 2 for bf16, 4 for fp32."""
    four_bit: bool = False
    """Whether the frozen matrices of the layers are held in NF4."""
    gpus: int = 1
    """GPUs that share weights and optimiser (FSDP); each has a batch of its own."""
    attention: Attention = "fused"

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.rows * self.length


@dataclass(frozen=True)
class Need:
    """Bytes on one device, by what they are for."""

    weights: float = 0.0
    trained: float = 0.0
    """The adapter, its gradients, fp32 copies and the optimiser's moments."""
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0
    """Keys and values of the tokens so far."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.trained + self.activations + self.logits + self.cache

    def __str__(self) -> str:
        named = [(name, size) for name, size in vars(self).items() if size]
        return f"{self.total / GB:.2f} GB ({', '.join(f'{name} {size / GB:.2f}' for name, size in named)})"


def adapted_layers(arch: Architecture, recipe: Recipe) -> int:
    """Return how many layers are trained: the upper share of them."""
    return arch.layers if recipe.whole else round(arch.layers * recipe.upper)


def lora_parameters(arch: Architecture, recipe: Recipe) -> int:
    """Return the parameters of the recipe's adapter."""
    chosen = [shape for name, shape in arch.linears.items() if not recipe.targets or name in recipe.targets]
    return adapted_layers(arch, recipe) * recipe.rank * sum(wide + high for wide, high in chosen)


def weight_bytes(arch: Architecture, width: int = 2, four_bit: bool = False) -> float:
    """Return the bytes of the weights; in 4 bits only the layers' matrices are."""
    if not four_bit:
        return float(arch.parameters * width)
    packed = arch.layers * arch.layer_matrices
    return (arch.parameters - packed) * width + packed * NF4_BITS / 8


def moment_bytes(parameters: int) -> int:
    """Return the bytes of AdamW's two fp32 moments; each tensor's step counter adds 4."""
    return 2 * _FLOAT * parameters


def training(arch: Architecture, recipe: Recipe) -> Need:
    """Return what one device needs at the peak of a training step."""
    trained = arch.parameters if recipe.whole else lora_parameters(arch, recipe)
    # In low precision the optimiser works on fp32 copies; fp32 gradients of those, and the net's own gradients.
    state = moment_bytes(trained) + 2 * _FLOAT * trained + recipe.width * trained
    adapter = 0 if recipe.whole else recipe.width * trained
    weights = weight_bytes(arch, recipe.width, recipe.four_bit)
    if recipe.four_bit:
        weights += _largest_matrix(arch) * recipe.width  # unpacked while it is used
    if recipe.gpus > 1:
        # The unit at work is whole on every GPU, and the next one is being fetched.
        weights = weights / recipe.gpus + 2 * _largest_unit(arch) * recipe.width
        state, adapter = state // recipe.gpus, adapter // recipe.gpus
    logits = recipe.rows * recipe.answer * arch.vocab * (_LOGITS + (recipe.width if arch.capped else 0))
    return Need(weights, state + adapter, activations(arch, recipe), logits)


def activations(arch: Architecture, recipe: Recipe) -> float:
    """Return the bytes that the forward pass keeps for the backward pass, or recomputes a layer at a time.

    Layers below the lowest adapter keep nothing: no gradient passes them.
    """
    layer = recipe.tokens * token_bytes(arch, recipe)
    layers = adapted_layers(arch, recipe)
    if not recipe.checkpointing:
        return float(layers * layer)
    return float(layers * recipe.tokens * arch.hidden * recipe.width + layer)


def token_bytes(arch: Architecture, recipe: Recipe) -> int:
    """Return the bytes that one token leaves in one adapted layer."""
    width, rank = recipe.width, 0 if recipe.whole else 7 * recipe.rank
    norms = arch.norms * arch.hidden * _FLOAT
    # A trained gain needs what it multiplied.
    norms += arch.norms * arch.hidden * width if recipe.whole else 0
    inputs = 2 * arch.hidden + arch.queries + rank  # of attention, feed-forward, output map; LoRA's middle
    gated = 4 * arch.intermediate  # gate, its activation, up, their product
    return norms + width * (inputs + gated) + _attention_bytes(arch, recipe)


def _attention_bytes(arch: Architecture, recipe: Recipe) -> int:
    """Return a token's share of what attention keeps in one layer; a tree's tokens look at all of the batch."""
    width, seen = recipe.width, recipe.tokens
    lowered = width if width < _FLOAT else 0  # the low-precision copy of fp32 weights
    scores = arch.heads * seen
    if recipe.attention == "grouped" and seen**2 <= MOST_SCORES:
        return width * (arch.queries + 2 * arch.keys) + scores * (_FLOAT + lowered)
    if recipe.attention == "eager" or arch.capped:
        return width * 3 * arch.queries + scores * (_FLOAT + lowered + (width if arch.capped else 0))
    return width * 4 * arch.queries


def answering(arch: Architecture, recipe: Recipe, batch: int = 32, prompt: int = 128, new: int = 128) -> Need:
    """Return about what one device needs to answer ``batch`` prompts of ``prompt`` tokens with ``new`` tokens each."""
    weights = weight_bytes(arch, recipe.width, recipe.four_bit) / recipe.gpus
    weights += 2 * _largest_unit(arch) * recipe.width if recipe.gpus > 1 else 0
    whole = cache_bytes(arch, batch * (prompt + new), recipe.width)
    # What the prompts were read into may live on until it is collected, and one layer is copied as it grows.
    beside = cache_bytes(arch, batch * prompt, recipe.width) + whole / arch.layers
    return Need(weights, logits=float(batch * arch.vocab * (recipe.width + _FLOAT)), cache=whole + beside)


def cache_bytes(arch: Architecture, tokens: int, width: int = 2) -> int:
    """Return the bytes of the keys and values of so many tokens, in all layers."""
    return 2 * arch.layers * arch.keys * tokens * width


def modes(width: int = 2, gpus: int = 1, attention: Attention = "fused") -> dict[str, Recipe]:
    """Return the ways to train that `b4g doctor` weighs, cheapest in time first."""
    lora = Recipe(width=width, gpus=gpus, attention=attention)
    again = replace(lora, checkpointing=True)
    four = replace(again, four_bit=True)
    return {
        "LoRA": lora,
        "LoRA, checkpointing": again,
        "LoRA on 4 bits, checkpointing": four,
        "all weights, checkpointing": replace(again, whole=True),
    }


def _largest_matrix(arch: Architecture) -> int:
    return max(wide * high for wide, high in arch.linears.values())


def _largest_unit(arch: Architecture) -> int:
    """Return the parameters of the largest part that is gathered at once: a layer or the embedding."""
    return max(arch.layer_parameters, arch.vocab * arch.hidden)
