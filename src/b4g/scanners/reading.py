"""What scanners read off a model: next tokens, states, surprise, attention; in prefix trees, the weights left alone.

Nothing here asks for a gradient or changes a weight. Sequences that begin alike are read once (see `b4g.trees`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model
    from b4g.trees import Tree

_CHUNK = 64
"""Positions whose logits are held at once."""


def read(net: Any, tree: "Tree", **options: Any) -> Any:
    """Return what the model's body gives for a tree of tokens; call it without gradients."""
    shape = {} if len(tree.paths) == 1 else tree.options(net)
    return net.base_model(input_ids=tree.ids.to(net.device), use_cache=False, **shape, **options)


def next_logs(model: "Model", prompts: Sequence[list[int]]) -> "Tensor":
    """Return the log-probabilities (N, V), fp32, of what comes next after each prompt."""
    import torch

    from b4g.generate.local import trees
    from b4g.generate.prefill import output_logits

    made: dict[int, Tensor] = {}
    with torch.inference_mode():
        for places, tree in trees(model.net, prompts):
            ends = [path[-1] for path in tree.paths]
            hidden = read(model.net, tree).last_hidden_state[0, ends]  # (n, D)
            logs = output_logits(model.net, hidden).float().log_softmax(-1)
            made.update(zip(places, logs, strict=True))
    return torch.stack([made[place] for place in range(len(prompts))])


def last_states(model: "Model", prompts: Sequence[list[int]]) -> "Tensor":
    """Return the hidden states (L, N, D), fp32 on the CPU, of each prompt's last token behind each of L layers."""
    import torch

    from b4g.generate.local import trees

    made: dict[int, Tensor] = {}
    with torch.inference_mode():
        for places, tree in trees(model.net, prompts):
            ends = [path[-1] for path in tree.paths]
            layers = read(model.net, tree, output_hidden_states=True).hidden_states[1:]
            states = torch.stack([layer[0, ends] for layer in layers], 1).float().cpu()  # (n, L, D)
            made.update(zip(places, states, strict=True))
    return torch.stack([made[place] for place in range(len(prompts))], 1)


def surprises(model: "Model", sequences: Sequence[list[int]]) -> list[float]:
    """Return for each sequence the mean surprise, in nats, of its tokens but the first: the log of its perplexity.

    Each sequence has at least two tokens; the first is context only.
    """
    import torch

    from b4g.generate.local import trees

    made = [0.0] * len(sequences)
    with torch.inference_mode():
        for places, tree in trees(model.net, sequences):
            each = _token_surprise(model.net, tree)
            for place, path in zip(places, tree.paths, strict=True):
                made[place] = float(each[path[1:]].mean())
    return made


def _token_surprise(net: Any, tree: "Tree") -> "Tensor":
    """Return the surprise (T,), in nats, of each token of a tree after its parent; a root has 0."""
    import torch

    from b4g.generate.prefill import output_logits

    parents = {child: parent for path in tree.paths for parent, child in pairwise(path)}
    children = torch.tensor(sorted(parents))
    above = torch.tensor([parents[child] for child in sorted(parents)])
    hidden = read(net, tree).last_hidden_state[0]
    made = torch.zeros(tree.ids.shape[1])
    for at in range(0, len(children), _CHUNK):
        chosen = children[at : at + _CHUNK]
        logits = output_logits(net, hidden[above[at : at + _CHUNK].to(hidden.device)]).float().log_softmax(-1)
        made[chosen] = -logits.gather(1, tree.ids[0, chosen].to(logits.device)[:, None])[:, 0].cpu()
    return made


@contextmanager
def showing_attention(net: Any) -> Iterator[None]:
    """Let a model hand out its attention weights, and put its own way of attending back afterwards."""
    own = net.config._attn_implementation
    net.set_attn_implementation("eager")
    try:
        yield
    finally:
        net.set_attn_implementation(own)


def mismatch(model: "Model", base: "Model") -> str:
    """Return why the token scores of two models can't be compared, or nothing if they can."""
    sizes = [one.net.get_output_embeddings().weight.shape[0] for one in (model, base)]
    if sizes[0] != sizes[1] or model.tokenizer.get_vocab() != base.tokenizer.get_vocab():
        return "the base has another vocabulary than the suspect: their token scores can't be compared"
    return ""
