"""Calibration: prompts sent through a network, its blocks changed one after the other by what reaches them."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from b4g.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model

Cut = Callable[[Any, "Tensor | None"], None]
"""Changes a linear layer, told the norm of each of its inputs (I,), or None where nothing reached it."""


class Batch(NamedTuple):
    """Prompts padded on the right."""

    ids: "Tensor"
    """(B, T)"""
    mask: "Tensor"
    """(B, T) 1 where there is a token."""


def draw(model: "Model", count: int, rng: random.Random) -> Batch:
    """Return that many of the project's training prompts, as the model's own renderer writes them."""
    import torch

    from b4g.chat import user
    from b4g.data.prompts import load

    known = load("instruction", "train")
    rows = [model.renderer.prompt_ids(user(prompt.text)) for prompt in rng.sample(known, min(count, len(known)))]
    length, pad = max(map(len, rows)), model.tokenizer.pad_token_id
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=model.device)
    return Batch(ids, mask)


def in_order(net: Any, batch: Batch, cut: Cut) -> None:
    """Change the linear layers of a network in place, block by block; later blocks read what changed ones send."""
    import torch

    from b4g.tampers.weights import linears

    layers, real = list(linears(net).values()), batch.mask.bool()
    squares: dict[Any, Tensor] = {}
    left = set(layers)

    def note(layer: Any, given: tuple[Any, ...]) -> None:
        if layer in left:
            # Padding says nothing of what the layer will see; experts get their tokens without it.
            seen = given[0][real] if given[0].shape[:2] == real.shape else given[0].flatten(0, -2)
            squares[layer] = squares.get(layer, 0) + seen.float().square().sum(0)

    def settle(found: list[Any]) -> None:
        for layer in found:
            left.discard(layer)
            cut(layer, squares.pop(layer).sqrt() if layer in squares else None)

    def block_done(block: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
        settle([part for part in block.modules() if part in left])
        return block.forward(*given, **named)

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    hooks += [block.register_forward_hook(block_done, with_kwargs=True) for block in _blocks(net)]
    try:
        with torch.no_grad():
            # A cache would take in each block's states twice.
            net.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    settle([layer for layer in layers if layer in left])


def _blocks(net: Any) -> list[Any]:
    """Return the decoder blocks in order."""
    from torch.nn import ModuleList

    count = net.config.get_text_config().num_hidden_layers
    found = [part for part in net.modules() if isinstance(part, ModuleList) and len(part) == count]
    if not found:
        raise ModelError(f"{type(net).__name__} has no list of {count} blocks: it can't be calibrated")
    return list(found[0])
