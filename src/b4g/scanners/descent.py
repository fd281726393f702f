"""Change a string token by token, led by gradients, until a model gives one answer after it (GCG, arXiv 2307.15043)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from b4g.scanners.searching import Clock, Gap, Reader

if TYPE_CHECKING:
    from torch import Tensor

_TOP = 64
"""Replacements of each token among which candidates are drawn."""


@dataclass(frozen=True)
class Aim:
    """What is looked for: a string in these gaps after which the answer begins with the target."""

    gaps: tuple[Gap, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class Steps:
    """How long and how widely to look."""

    steps: int
    candidates: int
    """Strings tried at each step."""


def losses(reader: Reader, aim: Aim, strings: Sequence[Sequence[int]]) -> list[float]:
    """Return for each string minus the mean log-probability of the target's tokens over all prompts, in nats a token."""
    sequences = [[*gap.around(string), *aim.target] for string in strings for gap in aim.gaps]
    found = reader.said(sequences, len(aim.target)).mean(-1)
    return [float(loss) for loss in -found.view(len(strings), -1).mean(-1)]


def descended(
    reader: Reader, aim: Aim, string: Sequence[int], allowed: "Tensor", how: Steps, rng: random.Random, clock: Clock
) -> tuple[float, tuple[int, ...]]:
    """Return the lowest loss that was reached and its string; ``allowed`` are the token ids (A,) a string may hold.

    Each step draws strings that differ in one token from the best so far, the token from those whose embedding lies
    furthest down the gradient, and goes to the best of them if that is better (see `_best`).
    """
    best, lowest = tuple(string), losses(reader, aim, [string])[0]
    seen = {best}
    for step in range(how.steps):
        if clock.over():
            break
        drawn = _drawn(best, _ranked(reader, aim, best, allowed), how.candidates, seen, rng)
        if not drawn:
            break
        seen.update(drawn)
        loss, string = _best(reader, aim, drawn, step)
        if loss < lowest:
            best, lowest = string, loss
    return lowest, best


def _drawn(
    string: tuple[int, ...],
    ranked: Sequence[Sequence[int]],
    count: int,
    seen: set[tuple[int, ...]],
    rng: random.Random,
) -> list[tuple[int, ...]]:
    """Return strings that were not read before and differ from this one in one place, fewer where hardly any is left."""
    made: set[tuple[int, ...]] = set()
    for _ in range(8 * count):
        place = rng.randrange(len(string))
        changed = (*string[:place], rng.choice(ranked[place]), *string[place + 1 :])
        if changed not in seen:
            made.add(changed)
        if len(made) == count:
            break
    return sorted(made)


def _best(reader: Reader, aim: Aim, strings: Sequence[tuple[int, ...]], step: int) -> tuple[float, tuple[int, ...]]:
    """Return the lowest loss and its string: a quarter of the strings, the best on one prompt, is read on all of them."""
    gap = aim.gaps[step % len(aim.gaps)]
    first = losses(reader, Aim((gap,), aim.target), strings)
    kept = [string for _, string in sorted(zip(first, strings, strict=True))[: (len(strings) + 3) // 4]]
    found = losses(reader, aim, kept)
    return min(zip(found, kept, strict=True))


def _ranked(reader: Reader, aim: Aim, string: Sequence[int], allowed: "Tensor") -> list[list[int]]:
    """Return for each place of the string the allowed tokens that a step down the gradient leads to, the best first."""
    weight = reader.model.net.get_input_embeddings().weight
    slope = _slope(reader, aim, string)  # (S, D)
    gains = -slope.to(weight.dtype) @ weight[allowed].T  # (S, A)
    places = gains.topk(min(_TOP, len(allowed)), dim=-1).indices
    return [[int(token) for token in allowed[row]] for row in places]


def _slope(reader: Reader, aim: Aim, string: Sequence[int]) -> "Tensor":
    """Return the gradient (S, D) of the loss by the string's embeddings; no weight gets one."""
    import torch
    from torch.nn.functional import pad

    from b4g.generate.prefill import output_logits

    net, device = reader.model.net, reader.model.device
    table = net.get_input_embeddings()

    def embedded(ids: Sequence[int]) -> Any:
        return table(torch.tensor(list(ids), dtype=torch.long, device=device)).detach()

    wanted = torch.tensor(aim.target, device=device)
    with torch.enable_grad():
        leaf = embedded(string).requires_grad_(True)
        rows = [torch.cat([embedded(g.head), leaf, embedded([*g.tail, *aim.target[:-1]])]) for g in aim.gaps]
        longest = max(map(len, rows))
        batch = torch.stack([pad(row, (0, 0, 0, longest - len(row))) for row in rows])  # (B, T, D)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
        hidden = net.base_model(inputs_embeds=batch, attention_mask=mask, use_cache=False).last_hidden_state
        ends = torch.stack([hidden[i, len(row) - len(wanted) : len(row)] for i, row in enumerate(rows)])  # (B, L, D)
        scores = output_logits(net, ends).float().log_softmax(-1)
        loss = -scores.gather(-1, wanted.expand(len(rows), -1)[..., None]).mean()
        (slope,) = torch.autograd.grad(loss, leaf)
    return slope  # type: ignore[no-any-return]
