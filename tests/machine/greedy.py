"""Transformers' own greedy loop as the reference, and models whose completions read as token ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from b4g.chat import Chat, Renderer, user
from b4g.generate.base import Completion
from b4g.generate.local import LocalGenerator
from b4g.hashing import rng
from b4g.models.load import Model, load_model

NEW = 12


class _Exact(Renderer):
    def decode(self, ids: Any) -> str:
        """Return the ids themselves: bytes that are no UTF-8 would all look alike."""
        return " ".join(map(str, ids))


def exact(folder: Path, dtype: str = "float32") -> Model:
    """Return a model whose completions read as token ids."""
    model = load_model(str(folder), dtype=dtype)
    model.renderer = _Exact(model.tokenizer)
    return model


def chats(count: int = 30, longest: int = 160) -> list[Chat]:
    """Return chats of many lengths, in no order of length."""
    source = rng("chats", count)
    return [user("".join(source.choices("abcdefgh .?", k=source.randint(1, longest)))) for _ in range(count)]


def reference(model: Model, asked: Sequence[Chat], limit: int = NEW) -> list[str]:
    """Return what ``model.generate`` says, one prompt at a time."""
    said, ends = [], sorted(LocalGenerator(model)._end_ids())
    for chat in asked:
        ids = torch.tensor([model.renderer.prompt_ids(chat)])
        with torch.inference_mode():
            out = model.net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=limit,
                eos_token_id=ends,
                pad_token_id=0,
            )
        said.append(model.renderer.decode(out[0, ids.shape[1] :].tolist()))
    return said


def texts(completions: Sequence[Completion]) -> list[str]:
    return [made.text for made in completions]


def gap_where_they_part(model: Model, chat: Chat, one: str, other: str) -> tuple[float, float]:
    """Return how far apart the logits of two answers' first unlike tokens are, and the largest logit there."""
    first, second = ([int(token) for token in said.split()] for said in (one, other))
    at = next(place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    with torch.inference_mode():
        logits = model.net(torch.tensor([model.renderer.prompt_ids(chat) + first[:at]])).logits[0, -1].float()
    return abs(float(logits[first[at]] - logits[second[at]])), float(logits.abs().max())
