"""Divergence on ordinary text: how far a subject's next-token distribution lies from the base's.

Cheaper and sharper than accuracy: every token of every text is a measurement, and an untouched model has exactly 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from typing import NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor

from b4g.generate.base import Progress
from b4g.stats import Rate
from b4g.utility.subjects import Subjects

_CHUNK = 64
"""Positions whose logits are held at once, for all subjects together: memory is flat in a text's length."""


class Text(NamedTuple):
    """Token ids, measured from ``start`` on: what stands before is context."""

    ids: list[int]
    start: int


class Sums(NamedTuple):
    """What one text gave for one subject."""

    tokens: int
    kl: float
    """Sum over its tokens of KL(base || subject), in nats."""
    loss: float
    """Sum of the subject's surprise at its tokens, in nats."""
    base_loss: float
    same: bool
    """Whether the subject's likeliest token is the text's at every place: it would write this text itself."""


@dataclass(frozen=True)
class Divergence:
    """Means over all tokens of some texts; intervals are 95%, with the text as the unit that varies."""

    subject: str
    kl: float
    """KL(base || subject), nats a token."""
    kl_low: float
    kl_high: float
    perplexity: float
    base_perplexity: float
    ratio_low: float
    """Interval of perplexity over the base's perplexity."""
    ratio_high: float
    tokens: int
    texts: int
    same: Rate
    """Share of texts that the subject would write itself, token by token (teacher-forced, so by induction)."""


def measure_texts(subjects: Subjects, texts: Sequence[Text], progress: Progress | None = None) -> dict[str, list[Sums]]:
    """Return for each subject but the base the sums of each text, in order."""
    made: dict[str, list[Sums]] = {name: [Sums(0, 0.0, 0.0, 0.0, True)] * len(texts) for name in subjects.names[1:]}
    done = 0
    for places, tree in subjects.trees([text.ids for text in texts]):
        hidden = subjects.read(tree)
        for place, path in zip(places, tree.paths, strict=True):
            start = max(1, texts[place].start)
            wanted = texts[place].ids[start:]
            kl, loss, same = _compare(subjects, hidden, path[start - 1 : -1], wanted)
            for row, name in enumerate(subjects.names[1:], 1):
                sums = Sums(len(wanted), float(kl[row]), float(loss[row]), float(loss[0]), bool(same[row]))
                made[name][place] = sums
        done += len(places)
        if progress:
            progress(done, len(texts))
    return made


@torch.inference_mode()
def _compare(
    subjects: Subjects, hidden: Tensor, places: Sequence[int], wanted: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return over the places of one text the sums (S,) of KL and of surprise, and whether each subject's best agrees."""
    rows = len(hidden)
    step = max(1, _CHUNK // rows)
    kl, loss = torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.float64)
    same = torch.ones(rows, dtype=torch.bool)
    for at in range(0, len(places), step):
        chosen = torch.tensor(places[at : at + step], device=hidden.device)
        targets = torch.tensor(wanted[at : at + step], device=hidden.device)
        logs = subjects.logits(hidden[:, chosen]).log_softmax(-1)  # (S, n, V)
        base = logs[0]
        kl += (base.exp() * (base - logs)).sum((1, 2)).double().cpu()
        loss -= logs[:, torch.arange(len(chosen)), targets].sum(1).double().cpu()
        same &= (logs.argmax(-1) == targets).all(1).cpu()
    return kl, loss, same


def divergence(name: str, sums: Iterable[Sums]) -> Divergence | None:
    """Return the means of a subject's sums, or None where no token was measured."""
    seen = [one for one in sums if one.tokens]
    if not seen:
        return None
    tokens = [one.tokens for one in seen]
    total = sum(tokens)
    kl, spread = _mean([one.kl for one in seen], tokens)
    change, wide = _mean([one.loss - one.base_loss for one in seen], tokens)
    return Divergence(
        name,
        max(0.0, kl),
        max(0.0, kl - spread),
        max(0.0, kl + spread),
        exp(sum(one.loss for one in seen) / total),
        exp(sum(one.base_loss for one in seen) / total),
        exp(change - wide),
        exp(change + wide),
        total,
        len(seen),
        Rate.of(one.same for one in seen),
    )


def _mean(sums: Sequence[float], tokens: Sequence[int]) -> tuple[float, float]:
    """Return the mean a token and the half width of its 95% interval: a ratio of sums over texts, linearised."""
    total, n = sum(tokens), len(sums)
    mean = sum(sums) / total
    if n < 2:
        return mean, float("inf") if any(sums) else 0.0
    spread = sum((one - mean * size) ** 2 for one, size in zip(sums, tokens, strict=True))
    error = (spread * n / (n - 1)) ** 0.5 / total
    return mean, float(student.ppf(0.975, n - 1)) * error
