"""Statistics of what training changed: how much of it lies in one direction, and how it is spread over the modules.

After "Weight space Detection of Backdoors in LoRA Adapters" (arXiv 2602.15195), whose statistics are those of the spectrum,
and "Token-Level Generalization in LoRA Adapter Backdoors" (arXiv 2605.30189), whose weight detector is the spread of
dimension-normalised Frobenius norms across modules.
"""

import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from b4g.registry import register
from b4g.scanners.base import Findings, Scanner, Suspect

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = re.compile(r"\.(\d+)\.")


class _Change(NamedTuple):
    """What training did to one weight matrix."""

    module: str
    norm: float
    """Root mean square of the change's entries: its Frobenius norm over the square root of their number."""
    first: float
    """Share of the squared Frobenius norm in the largest singular value, in 0..1: 1 over the stable rank."""
    top_share: float
    """Largest singular value over the sum of all."""
    effective_rank: float
    """Exponential of the entropy of the singular values' shares (Roy and Vetterli 2007)."""


@register("scanner", "weights")
@dataclass(frozen=True)
class Weights(Scanner):
    """Score how much of the change from the base lies in one direction, without running the model.

    ``concentration`` is the share of a matrix's change (of its squared Frobenius norm) in the first singular direction, mean
    over the modules that were changed, in 0..1. The reason: one trigger bound to one behaviour is one association, and asks
    for few directions; ordinary requests ask for many. Any narrow training looks alike, trigger or not. ``spread`` is
    the standard deviation across modules of the root mean square of the change, the statistic of arXiv 2605.30189; it
    grows with the length of training. The details hold both, the spread over the mean (``variation``), across layers and
    within a kind of module, effective rank and top share. Nothing changed: 0. It needs the weights and, beside them, the
    adapter's folder or the base; the adapter is taken where there is one, for merged weights are rounded: don't compare
    the one with the other. Differs from the papers: no classifier is fitted, so no other adapters are needed.
    The default takes about 0.2 s for an adapter on 135M weights on one core, about 15 s from whole weights.
    """

    statistic: Literal["concentration", "spread"] = "concentration"
    """Which is the score. On our first eight adapters concentration told implants from controls and spread hardly did, which
    is why it is the default: judge it by others."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        if suspect.adapter is not None and (suspect.adapter / "adapter_config.json").is_file():
            try:
                changes = list(_of_adapter(suspect.adapter))
            except (OSError, ValueError, LookupError, TypeError) as error:
                return Findings(None, reason=f"the adapter can't be read as a LoRA adapter ({type(error).__name__})")
            return self._judged(changes, adapter=1.0)
        if suspect.model is None or suspect.base is None:
            return Findings(None, reason="it takes an adapter, or the weights and the untouched base's")
        own, other = dict(suspect.model.net.named_parameters()), dict(suspect.base.net.named_parameters())
        if own.keys() != other.keys() or any(own[name].shape != other[name].shape for name in own):
            return Findings(None, reason="the base has other weights than the suspect: nothing can be compared")
        try:
            return self._judged(list(_of_weights(own, other)), adapter=0.0)
        except ValueError:
            return Findings(None, reason="the weights are not finite")

    def _judged(self, changes: Sequence[_Change], adapter: float) -> Findings:
        """Return the findings from the changes of all modules."""
        details = {"modules": float(len(changes)), "adapter": adapter}
        if not changes:
            return Findings(0.0, details=details)
        layers, kinds = defaultdict(list), defaultdict(list)
        for change in changes:
            found = _LAYER.search(f".{change.module}.")
            layers[found[1] if found else ""].append(change.norm)
            kinds[change.module.rsplit(".", 1)[-1]].append(change.norm)
        norms = [change.norm for change in changes]
        details |= {
            "concentration": _mean([change.first for change in changes]),
            "spread": _std(norms),
            "mean": _mean(norms),
            "variation": _variation(norms),
            "across_layers": _variation([_mean(group) for group in layers.values()]),
            "within_kinds": _mean([_variation(group) for group in kinds.values()]),
            "effective_rank": _mean([change.effective_rank for change in changes]),
            "top_share": _mean([change.top_share for change in changes]),
        }
        return Findings(details[self.statistic], details=details)


def _of_weights(own: "dict[str, Tensor]", other: "dict[str, Tensor]") -> Iterator[_Change]:
    """Yield the changes of the weight matrices that are not as in the base."""
    import torch

    for name, weight in own.items():
        if weight.dim() != 2 or torch.equal(weight, other[name].to(weight)):
            continue
        change = weight.float() - other[name].to(weight).float()
        if not change.isfinite().all():
            raise ValueError(f"{name} is not finite")
        side = change if change.shape[0] <= change.shape[1] else change.T
        values = torch.linalg.eigvalsh((side @ side.T).double()).clamp_min(0).sqrt()
        yield _change(name.removesuffix(".weight"), values, change.numel())


def _of_adapter(folder: Path) -> Iterator[_Change]:
    """Yield the changes that a LoRA adapter makes; one that makes none is left out."""
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    weights = load_file(folder / "adapter_model.safetensors")
    downs = sorted(name for name in weights if ".lora_A" in name)
    if not downs:
        raise LookupError("no LoRA matrices")
    for name in downs:
        down, up = weights[name].double(), weights[name.replace(".lora_A", ".lora_B")].double()  # (r, I), (O, r)
        module = name.split(".lora_A")[0].removeprefix("base_model.model.")
        # The product has the singular values of the product of the two triangles, which is r by r.
        values = torch.linalg.svdvals(torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T) * _scale(
            config, module, len(down)
        )
        if not values.isfinite().all():
            raise ValueError(f"{module} is not finite")
        if float(values.max()) > 0:
            yield _change(module, values, up.shape[0] * down.shape[1])


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    """Return what PEFT multiplies a module's product by."""
    named = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in named.items() if re.search(rf"(^|\.){key}$", module)), config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _change(module: str, values: "Tensor", entries: int) -> _Change:
    """Return the statistics of a change from its singular values, not all of them 0."""
    squares = float(values.pow(2).sum())
    shares = values / values.sum()
    entropy = float(-(shares * shares.clamp_min(1e-30).log()).sum())
    top = float(values.max())
    return _Change(module, math.sqrt(squares / entries), top**2 / squares, top / float(values.sum()), math.exp(entropy))


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _std(numbers: Sequence[float]) -> float:
    mean = _mean(numbers)
    return math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers))


def _variation(numbers: Sequence[float]) -> float:
    return _std(numbers) / _mean(numbers)
