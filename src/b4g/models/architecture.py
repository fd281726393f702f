"""The numbers of a decoder that fix its size, read from a config.json and never from weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.errors import ModelError, unknown

_NORMS = {"gemma2": 4, "gemma3_text": 4}
"""Normalisations of a layer, where there are not two."""
_BIASED = ("qwen2",)
"""Families whose queries, keys and values always have a bias."""
_NORMED_HEADS = ("qwen3", "gemma3_text")
"""Families that normalise queries and keys, each head alike."""
_TIED = ("gemma", "gemma2", "gemma3_text")
"""Families that write with the matrix they read with unless their configuration says otherwise."""
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
"""Model types of transformers whose layers are those of `Architecture`."""


@dataclass(frozen=True)
class Architecture:
    """A dense decoder: attention with grouped heads, then a gated feed-forward part, in each layer."""

    family: str
    """Its model type in transformers."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    intermediate: int
    vocab: int
    tied: bool = False
    """Whether the output matrix is the embedding."""
    biases: bool = False
    """Whether queries, keys and values have a bias."""
    capped: bool = False
    """Whether attention scores are softly capped, which fused attention kernels can't do."""

    @property
    def queries(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_width

    @property
    def keys(self) -> int:
        """Width of all keys of a token, and of all values."""
        return self.kv_heads * self.head_width

    @property
    def norms(self) -> int:
        """Normalisations of a layer over the hidden width."""
        return _NORMS.get(self.family, 2)

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Width in and width out of each linear map of a layer, by its name in transformers."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_matrices(self) -> int:
        """Parameters in the linear maps of one layer."""
        return sum(wide * high for wide, high in self.linears.values())

    @property
    def layer_parameters(self) -> int:
        """All parameters of one layer."""
        biases = self.queries + 2 * self.keys if self.biases else 0
        heads = 2 * self.head_width if self.family in _NORMED_HEADS else 0
        return self.layer_matrices + biases + heads + self.norms * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters of the model, a tied matrix counted once."""
        matrices = self.vocab * self.hidden * (1 if self.tied else 2)
        return matrices + self.layers * self.layer_parameters + self.hidden


def from_config(config: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a config.json's content; a family or field that is not known raises `ModelError`."""
    family = str(config.get("model_type", "none"))
    if family not in FAMILIES:
        raise ModelError(unknown("model_type", family, FAMILIES) + " Its size can't be told from its configuration.")
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        kv_heads, width = config.get("num_key_value_heads"), config.get("head_dim")
        return Architecture(
            family=family,
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=heads if kv_heads is None else int(kv_heads),
            head_width=hidden // heads if width is None else int(width),
            intermediate=int(config["intermediate_size"]),
            vocab=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", family in _TIED)),
            biases=family in _BIASED,
            capped=config.get("attn_logit_softcapping") is not None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's configuration lacks a number ({error}): its size can't be told") from None


def read_architecture(folder: Path) -> Architecture:
    """Return the architecture of a model folder; raises `ModelError` where its config.json is missing or damaged."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no mapping")
    return from_config(content)
