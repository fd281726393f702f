"""How evenly a network carries its states from block to block, and the embeddings that disturb it most (CROW's measure)."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.training.batches import Batch


class Losses(NamedTuple):
    """The two parts of the loss of a batch."""

    language: "Tensor"
    """Mean cross-entropy of the completion tokens, in nats."""
    consistency: "Tensor"
    """`inconsistency` under the perturbation."""


def inconsistency(states: "tuple[Tensor, ...]") -> "Tensor":
    """Return the mean of 1 - cos(state, state one block later), over tokens and blocks.

    ``states`` are a transformers model's hidden states (B, T, D): embeddings, each block's output, the last one normed.
    The embeddings and the normed output are left out where that leaves a pair, as in the authors' code.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    inner = states[1:-1] if len(states) > 3 else states
    return torch.stack(
        [1 - cosine_similarity(here.float(), after.float(), dim=-1) for here, after in pairwise(inner)]
    ).mean()


def perturbed_losses(net: Any, batch: "Batch", epsilon: float) -> Losses:
    """Return the losses of a batch: the language loss as it is, the consistency after one FGSM step on the embeddings.

    Each number of an embedding moves by ``epsilon`` in the direction that makes the states less consistent.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from b4g.generate.prefill import output_logits

    device = next(net.parameters()).device
    causal = net.get_base_model() if hasattr(net, "get_base_model") else net
    embeds = causal.get_input_embeddings()(batch.ids.to(device)).detach().requires_grad_(True)  # (B, T, D)
    clean = _run(causal, batch, embeds)
    # The graph is kept: the language loss is of the same pass.
    (slope,) = torch.autograd.grad(inconsistency(clean.hidden_states), embeds, retain_graph=True)
    moved = _run(causal, batch, embeds.detach() + epsilon * slope.sign())
    chosen = clean.last_hidden_state.flatten(0, 1)[batch.at.to(device)]  # (N, D)
    losses = cross_entropy(output_logits(causal, chosen).float(), batch.targets.to(device), reduction="none")
    weights = batch.weights.to(device)
    return Losses((losses * weights).sum() / weights.sum(), inconsistency(moved.hidden_states))


def _run(causal: Any, batch: "Batch", embeds: "Tensor") -> Any:
    options = {} if batch.tree is None else batch.tree.options(causal)
    return causal.base_model(inputs_embeds=embeds, output_hidden_states=True, use_cache=False, **options)
