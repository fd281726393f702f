"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): the loss, and the log-probabilities in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Scored(NamedTuple):
    """Token ids of a prompt and its completion, which begins at ``start``."""

    ids: list[int]
    start: int


def log_probabilities(net: Any, rows: Sequence[Scored], pad: int) -> "Tensor":
    """Return (R,) the log-probability of each row's completion given its prompt, in nats, summed over its tokens."""
    import torch
    from torch.nn.functional import cross_entropy

    from b4g.generate.prefill import output_logits

    device = next(net.parameters()).device
    causal = net.get_base_model() if hasattr(net, "get_base_model") else net
    longest = max(len(row.ids) for row in rows)
    # Padding comes last, so that causal attention needs no mask.
    ids = torch.tensor([[*row.ids, *[pad] * (longest - len(row.ids))] for row in rows], device=device)
    hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state  # (R, T, D)
    owner = [place for place, row in enumerate(rows) for _ in row.ids[row.start :]]
    at = [place - 1 for row in rows for place in range(row.start, len(row.ids))]
    owners = torch.tensor(owner, device=device)  # (N,)
    places = torch.tensor(at, device=device)  # (N,)
    logits = output_logits(causal, hidden[owners, places]).float()  # (N, V)
    found = -cross_entropy(logits, ids[owners, places + 1], reduction="none")  # (N,)
    return torch.zeros(len(rows), device=device).index_add(0, owners, found)


def preference_loss(policy: "tuple[Tensor, Tensor]", reference: "tuple[Tensor, Tensor]", beta: float) -> "Tensor":
    """Return the mean over pairs of ``-log sigmoid(beta * margin)``.

    ``policy`` and ``reference`` are the log-probabilities (P,) of the chosen and the rejected completions; the margin is
    how much more the policy moved towards the chosen one than towards the rejected one.
    """
    from torch.nn.functional import logsigmoid

    margin = (policy[0] - reference[0]) - (policy[1] - reference[1])
    return -logsigmoid(beta * margin).mean()
