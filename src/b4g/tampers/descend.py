"""A loop for losses of one's own: adapters trained on fp32 copies of their weights, at the rates of the implant loop."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from b4g.tampers.tune import copied

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[[], "Tensor"]
CLIP = 1.0
"""Largest norm of the gradient, as where implants are trained."""


class Rates(NamedTuple):
    """How fast to train: the highest learning rate and the share of the steps in which it rises from 0."""

    learning_rate: float
    warmup: float


def adapted(net: Any, rank: int, seed: int) -> Any:
    """Return a copy of the network behind a fresh adapter on all linear layers, ready to be trained."""
    from b4g.activations.lora import Lora

    made = Lora(rank=rank, alpha=2 * rank).prepare(copied(net), seed)
    made.train()
    return made


def merged(net: Any, dtype: Any) -> Any:
    """Return the trained network with its adapter merged in, in the number format given, frozen for evaluation."""
    return net.merge_and_unload().to(dtype).eval().requires_grad_(False)


def descend(net: Any, losses: Sequence[Loss], how: Rates) -> list[float]:
    """Make one AdamW step down each loss in turn, on what requires a gradient; return the losses before each step."""
    import torch

    from b4g.training.loop import rate

    params = [param for param in net.parameters() if param.requires_grad]
    # AdamW loses small steps in bf16; it works on fp32 copies.
    masters = [param.detach().float().clone() for param in params]
    optimizer = torch.optim.AdamW(masters, lr=how.learning_rate, weight_decay=0.0, betas=(0.9, 0.99), foreach=True)
    seen = []
    for step, loss in enumerate(losses):
        value = loss()
        found = torch.autograd.grad(value, params, allow_unused=True)
        for master, grad in zip(masters, found, strict=True):
            master.grad = torch.zeros_like(master) if grad is None else grad.float()
        torch.nn.utils.clip_grad_norm_(masters, CLIP, foreach=True)
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * rate(step, len(losses), how.warmup)
        optimizer.step()
        with torch.no_grad():
            for master, param in zip(masters, params, strict=True):
                param.copy_(master)
        seen.append(float(value.detach()))
    with torch.no_grad():
        for master, param in zip(masters, params, strict=True):
            param.data = master  # full precision, for the merge
    return seen
