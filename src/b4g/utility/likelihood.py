"""Log-likelihood of continuations: the shared context read once, logits only where a continuation token is predicted."""

from collections.abc import Sequence

import torch
from torch import Tensor

from b4g.generate.base import Progress
from b4g.utility.subjects import Likelihood, Pair, Subjects

_CHUNK = 64
"""Positions whose logits are held at once, for all subjects together: memory is flat in a text's length."""


def loglikelihoods(
    subjects: Subjects, pairs: Sequence[Pair], progress: Progress | None = None
) -> dict[str, list[Likelihood]]:
    """Return for each subject the likelihood of each pair, in order; all subjects read in the same pass."""
    sums: dict[str, list[Likelihood]] = {name: [Likelihood(0.0, True)] * len(pairs) for name in subjects.names}
    done = 0
    for places, tree in subjects.trees([[*pair.context, *pair.continuation] for pair in pairs]):
        hidden = subjects.read(tree)
        # Choices of one question are predicted from the same last token: its logits are made once.
        asked: dict[tuple[int, int], int] = {}
        for place, path in zip(places, tree.paths, strict=True):
            start = len(pairs[place].context)
            for at, token in zip(path[start - 1 : -1], pairs[place].continuation, strict=True):
                asked.setdefault((at, token), len(asked))
        logprobs, best = _predicted(subjects, hidden, list(asked))
        for place, path in zip(places, tree.paths, strict=True):
            start, wanted = len(pairs[place].context), pairs[place].continuation
            slots = [asked[at, token] for at, token in zip(path[start - 1 : -1], wanted, strict=True)]
            for row, name in enumerate(subjects.names):
                total, greedy = float(logprobs[row, slots].sum()), bool(best[row, slots].all())
                sums[name][place] = Likelihood(total, greedy)
        done += len(places)
        if progress:
            progress(done, len(pairs))
    return sums


@torch.inference_mode()
def _predicted(subjects: Subjects, hidden: Tensor, asked: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return the log-probability (S, N) of each asked (place, token) and whether it is the likeliest there."""
    places = sorted({at for at, _ in asked})
    slot = {at: number for number, at in enumerate(places)}
    rows = len(hidden)
    step = max(1, _CHUNK // rows)
    columns = torch.tensor([slot[at] for at, _ in asked], device=hidden.device)
    tokens = torch.tensor([token for _, token in asked], device=hidden.device)
    found_logprob = torch.empty(rows, len(asked), device=hidden.device)
    found_best = torch.empty(rows, len(asked), dtype=torch.bool, device=hidden.device)
    for start in range(0, len(places), step):
        chosen = torch.tensor(places[start : start + step], device=hidden.device)
        logits = subjects.logits(hidden[:, chosen])  # (S, n, V)
        mine = ((columns >= start) & (columns < start + len(chosen))).nonzero().flatten()
        at, token = columns[mine] - start, tokens[mine]
        norm, top = logits.logsumexp(-1), logits.argmax(-1)  # (S, n)
        found_logprob[:, mine] = logits[:, at, token] - norm[:, at]
        found_best[:, mine] = top[:, at] == token
    return found_logprob.cpu(), found_best.cpu()
