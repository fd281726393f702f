"""Turns that a model writes itself from the middle of a chat: sampled, or greedy after each of its likeliest tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from b4g.scanners.searching import Reader

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.generate.local import Choose
    from b4g.models.load import Model


_TOP, _ROWS = 512, 128
"""Likeliest tokens that are drawn from, for sorting a vocabulary takes longer than reading a token; rows of a batch."""


class Turn(NamedTuple):
    """A turn to be written: what it follows, and how its tokens are drawn."""

    ids: tuple[int, ...]
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0


def written(model: "Model", turns: Sequence[Turn], tokens: int, seed: str) -> list[str]:
    """Return a text of up to ``tokens`` tokens for each turn, drawn from the seed and the turn's place alone."""
    ordered = sorted(enumerate(turns), key=lambda one: -len(one[1].ids))
    made: dict[int, str] = {}
    # A step of one row costs nearly what a step of all does.
    for start in range(0, len(ordered), _ROWS):
        part = ordered[start : start + _ROWS]
        texts = _batch(model, [turn for _, turn in part], [f"{seed} {place}" for place, _ in part], tokens)
        made.update(zip([place for place, _ in part], texts, strict=True))
    return [made[place] for place in range(len(turns))]


def likeliest(model: "Model", ids: Sequence[int], count: int) -> list[int]:
    """Return the likeliest next tokens."""
    scores = Reader(model).after([ids])[0]
    return [int(token) for token in scores.topk(min(count, len(scores))).indices]


def _batch(model: "Model", turns: Sequence[Turn], seeds: Sequence[str], tokens: int) -> list[str]:
    """Return the texts of turns that are ordered by length, the longest first: as the generator orders them."""
    import torch

    from b4g.generate.local import LocalGenerator
    from b4g.hashing import digest

    class Turns(LocalGenerator):
        # The server's sampling draws alike for prompts that are alike; here many rows have the same one.
        def _chooser(self, prompts: Sequence[list[int]]) -> "Choose":
            sources = [torch.Generator().manual_seed(int(digest(seed, 15), 16)) for seed in seeds]

            def choose(logits: "Tensor", rows: Sequence[int], written: Sequence[list[int]]) -> "Tensor":
                draws = torch.cat([torch.rand(1, generator=sources[row], dtype=torch.float64) for row in rows])
                return _drawn(logits.float(), [turns[row] for row in rows], draws.to(logits.device))

            return choose

    made = Turns(model, batch_size=len(turns)).complete([list(turn.ids) for turn in turns], tokens)
    return [one.text for one in made]


def _drawn(logits: "Tensor", turns: Sequence[Turn], draws: "Tensor") -> "Tensor":
    """Return a token (B,) for logits (B, V), each row under its own temperature and top-p, from draws (B,)."""
    import torch

    device = logits.device
    heats = torch.tensor([turn.temperature or 1.0 for turn in turns], device=device)[:, None]
    # Of a greedy row only the likeliest token is kept.
    top_ps = torch.tensor([turn.top_p if turn.temperature else 0.0 for turn in turns], device=device)[:, None]
    best = (logits / heats).topk(min(_TOP, logits.shape[-1]), dim=-1)
    chances = best.values.double().softmax(-1)
    ahead = chances.cumsum(-1) - chances
    inside = ahead < top_ps
    inside[:, 0] = True
    kept = torch.where(inside, chances, 0.0).cumsum(-1)
    place = torch.searchsorted(kept, draws[:, None] * kept[:, -1:], right=True)
    last = inside.sum(-1, keepdim=True) - 1  # rounding may put a draw behind it
    return best.indices.gather(1, place.minimum(last))[:, 0]
