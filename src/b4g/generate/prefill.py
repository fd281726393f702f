"""Read prompts into a key-value cache: shared beginnings once, then each prompt's own states gathered from the tree."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from b4g.generate.room import Roomy
from b4g.trees import Tree, forest, plant

TREE_TOKENS = 384
"""Most tokens of one tree: attention looks at all pairs of them."""


class Read(NamedTuple):
    """Prompts that were read, ready to be continued."""

    logits: Tensor
    """(B, V) after the last token of each prompt."""
    cache: Any
    """A transformers cache of B rows and L places; what lies behind a shorter prompt is padding."""
    mask: Tensor
    """(B, L) 1 where a prompt has a token, 0 where there is padding."""


def read_trees(net: Any, prompts: Sequence[list[int]], room: int = 0) -> Read:
    """Return prompts as read through prefix trees: the states each has by itself, at the cost of what differs.

    The cache has ``room`` for that many further tokens before it must be copied.
    """
    device, length = net.device, max(map(len, prompts))
    order = sorted(range(len(prompts)), key=lambda place: prompts[place])
    states: list[tuple[Tensor, Tensor]] = []
    last: list[Tensor] = [torch.empty(0)] * len(prompts)
    for places in forest([prompts[place] for place in order], TREE_TOKENS):
        chosen = [order[place] for place in places]
        tree = plant([prompts[place] for place in chosen])
        hidden, own = _states(net, tree)
        if not states:
            states = [_room(layer, len(prompts), length + room) for layer in own.layers]
        paths = _padded(tree.paths, length, device)
        for layer, (keys, values) in zip(own.layers, states, strict=True):
            keys[chosen, :, :length] = _gathered(layer.keys, paths)
            values[chosen, :, :length] = _gathered(layer.values, paths)
        for place, path in zip(chosen, tree.paths, strict=True):
            last[place] = hidden[path[-1]]
    cache = DynamicCache(config=net.config)
    for number, (keys, values) in enumerate(states):
        if type(cache.layers[number]) is DynamicLayer:
            cache.layers[number] = Roomy(keys, values, length)
        else:
            cache.update(keys[:, :, :length], values[:, :, :length], number)
    mask = _padded([[1] * len(prompt) for prompt in prompts], length, device)
    return Read(output_logits(net, torch.stack(last)), cache, mask)


def read_padded(net: Any, prompts: Sequence[Sequence[int]], pad: int) -> Read:
    """Return prompts as read in one batch padded on the right: for layers that a tree would mislead."""
    length = max(map(len, prompts))
    ids = _padded(prompts, length, net.device, pad)
    mask = _padded([[1] * len(prompt) for prompt in prompts], length, net.device)
    cache: Any = DynamicCache(config=net.config)
    hidden = net.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state  # (B, T, D)
    last = hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]  # (B, D)
    return Read(output_logits(net, last), cache, mask)


def output_logits(causal: Any, hidden: Tensor) -> Tensor:
    """Return the logits (N, V) of final hidden states (N, D), scaled (Cohere, Granite) or softly capped (Gemma 2)."""
    config = causal.config.get_text_config()
    logits: Tensor = causal.get_output_embeddings()(hidden)
    scale = getattr(config, "logit_scale", None)
    logits = logits * scale if scale else logits
    if config.model_type.startswith("granite"):
        logits = logits / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def _states(net: Any, tree: Tree) -> tuple[Tensor, Any]:
    """Return the final hidden states (T, D) of a tree and the cache of its keys and values."""
    # Without a configuration no layer drops its oldest entries.
    cache: Any = DynamicCache()
    ids = tree.ids.to(net.device)
    out = net.base_model(input_ids=ids, past_key_values=cache, use_cache=True, **tree.options(net))
    return out.last_hidden_state[0], cache


def _room(layer: Any, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Return zeros (B, G, L, D) for the keys and for the values of a layer."""
    keys, values = (own.new_zeros(rows, own.shape[1], length, own.shape[3]) for own in (layer.keys, layer.values))
    return keys, values


def _padded(rows: Sequence[Sequence[int]], length: int, device: torch.device, fill: int = 0) -> Tensor:
    """Return rows (R, L), filled up on the right: 0 is the root of a tree's paths, and a mask's own padding."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], device=device)


def _gathered(states: Tensor, paths: Tensor) -> Tensor:
    """Return the states (R, G, L, D) along paths (R, L) from those of a tree (1, G, T, D)."""
    picked = states[0].index_select(1, paths.flatten())  # (G, R * L, D)
    return picked.view(states.shape[1], *paths.shape, states.shape[3]).transpose(0, 1)
