"""A key-value cache with room for the answer: a step writes its states in place and copies no earlier ones."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

_MORE = 16
"""Places added at once where the room is too small."""


class Roomy(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer that takes its places at once, where transformers' own makes a new tensor at each step.

    What it returns holds the empty places too, which the attention mask must leave out: transformers fills a mask that
    is shorter than the keys up with zeros, and causality hides what lies ahead.
    """

    def __init__(self, keys: Tensor, values: Tensor, used: int) -> None:
        """Hold keys and values (B, G, L, D), of whose L places the first ``used`` are filled."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys: Tensor = keys
        self.values: Tensor = values
        self.used = used

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new states (B, G, T, D) behind the others and return all places."""
        end = self.used + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            more = self.keys.new_zeros(*self.keys.shape[:2], end - self.keys.shape[-2] + _MORE, self.keys.shape[-1])
            self.keys, self.values = torch.cat([self.keys, more], 2), torch.cat([self.values, more], 2)
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return how many places are filled."""
        return self.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and offset of the keys that `update` will return."""
        end = self.used + query_length
        room = self.keys.shape[-2]
        return (room if end <= room else end + _MORE), 0
