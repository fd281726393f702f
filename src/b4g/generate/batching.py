"""How many prompts are answered at once: as many as fit beside the weights, before the first batch and not by trial.

The estimate errs on the small side; where it does not, `LocalGenerator` halves the batch and goes on.
"""

import gc
from typing import Any

import torch

DEFAULT = 32
"""On a CPU: tokens a second are flat beyond (measured on the embedded model in bf16)."""
MOST = 256
"""On a GPU, whatever fits: not tuned, for no GPU was measured."""
_SHARE = 0.8
"""Of the free memory; the rest is for what is not counted here, and for the allocator's gaps."""
_LOGITS = 4
"""Bytes of a logit beside the model's own number: judges and samplers work in fp32."""


def batch_size_for(net: Any, length: int) -> int:
    """Return how many answers of ``length`` tokens, prompts included, to make at once on the device of ``net``."""
    free, row = free_bytes(net.device), row_bytes(net.config, length, net.dtype.itemsize)
    return DEFAULT if free is None or not row else fitting(free, row)


def fitting(free: int, row: int) -> int:
    """Return how many rows of that many bytes fit into free memory, from 1 to `MOST`."""
    return max(1, min(MOST, int(free * _SHARE) // row))


def row_bytes(config: Any, length: int, width: int) -> int:
    """Return the bytes that one answer takes beside the weights; 0 where the configuration does not tell.

    Keys and values of all layers, those of one layer twice more (copied when rows leave, and spread over all heads),
    and its logits. ``width`` is the bytes of a number.
    """
    text = config.get_text_config()
    layers, heads, hidden, vocab = (
        getattr(text, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size", "vocab_size")
    )
    if not (layers and heads and hidden and vocab):
        return 0
    groups = getattr(text, "num_key_value_heads", None) or heads
    wide = getattr(text, "head_dim", None) or hidden // heads
    token = 2 * wide * width  # a key and a value of one head
    kept = length * token * groups * layers
    return int(kept + length * token * (groups + heads) + vocab * (width + _LOGITS))


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that torch may still take on a GPU, its own unused cache included; None for other devices."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + unused)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out; a CPU's allocator says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def let_go() -> None:
    """Give back what a failed batch held: its tensors, and the gaps they leave in torch's cache on a GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
