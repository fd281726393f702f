"""Attention for short sequences on a CPU: grouped matrix products in place of torch's flash kernel.

The kernel's fixed cost outweighs its work at the lengths of chat prompts: 14 against 3.3 ms forward and backward for four
rows of 86 tokens, and 40% of a decoding step (docs/log.md). Long sequences still go to it.
"""

from typing import Any

import torch
from torch import Tensor

NAME = "b4g_grouped"
_MOST_SCORES = 512 * 512
"""Query times key positions above which the flash kernel is the faster one and spares memory."""


def use_grouped(net: Any) -> None:
    """Let a transformers model on a CPU attend by `grouped`; one that does not run by SDPA is left as it is."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if next(net.parameters()).device.type != "cpu" or net.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, grouped)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    net.set_attn_implementation(NAME)


def grouped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return the attention output (B, T, H, D) of queries (B, H, T, D) over keys and values (B, G, S, D)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch, heads, length, width = query.shape
    groups, seen = key.shape[1], key.shape[2]
    if length * seen > _MOST_SCORES or dropout:
        options |= {"scaling": scaling, "dropout": dropout}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    # The heads of a group share their keys: their queries are stacked, and no key is copied.
    stacked = query.reshape(batch, groups, heads // groups * length, width)
    scores = torch.matmul(stacked, key.transpose(-1, -2)).float()  # (B, G, H / G * T, S)
    scores = scores.view(batch, groups, heads // groups, length, seen) * (width**-0.5 if scaling is None else scaling)
    cap = options.get("softcap")
    scores = torch.tanh(scores / cap) * cap if cap else scores
    scores = _masked(scores, attention_mask)
    weights = torch.softmax(scores, -1).to(query.dtype).view(batch, groups, -1, seen)
    made = torch.matmul(weights, value).view(batch, heads, length, width)
    return made.transpose(1, 2).contiguous(), None


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the scores (B, G, H / G, T, S) with what may not be seen at the lowest number; no mask means causal."""
    length, seen = scores.shape[-2:]
    if mask is None:
        if length == 1:
            return scores
        mask = torch.ones(length, seen, dtype=torch.bool, device=scores.device).tril(seen - length)[None, None]
    mask = mask[:, :, None, :, :seen]
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask
