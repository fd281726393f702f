"""Low-rank adapters on the linear layers (LoRA, arXiv 2106.09685), through PEFT."""

from dataclasses import dataclass
from typing import Any

from b4g.activations.base import Activation
from b4g.registry import register


@register("activation", "lora")
@dataclass(frozen=True, kw_only=True)
class Lora(Activation):
    """Train a LoRA adapter; the base weights stay as they are."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ()
    """Names of the linear layers; empty means all but the output layer."""
    upper: float = 1.0
    """Share of the layers, from the top, that get an adapter; the lower ones need no backward pass."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1 or not 0 < self.upper <= 1:
            raise ValueError("rank must be at least 1 and upper must lie above 0 and up to 1")

    def prepare(self, net: Any, seed: int) -> Any:
        from peft import LoraConfig, get_peft_model

        layers = net.config.get_text_config().num_hidden_layers
        first = layers - round(layers * self.upper)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.targets) or linear_names(net),
            layers_to_transform=list(range(first, layers)) if first else None,
            task_type="CAUSAL_LM",
        )
        made = get_peft_model(net, config, autocast_adapter_dtype=False)
        _initialise(made, seed)
        return made


def linear_names(net: Any) -> list[str]:
    """Return the last part of the names of all linear layers but the output layer, sorted."""
    from torch.nn import Linear

    out = net.get_output_embeddings()
    found = {
        name.rsplit(".", 1)[-1]
        for name, module in net.named_modules()
        if isinstance(module, Linear) and module is not out
    }
    return sorted(found)


def _initialise(net: Any, seed: int) -> None:
    """Draw the A matrices from an explicit generator, as PEFT does from the global one; B stays 0."""
    import torch

    source = torch.Generator().manual_seed(seed)
    for name, param in net.named_parameters():
        if "lora_A" in name:
            bound = 1 / param.shape[1] ** 0.5
            drawn = torch.rand(param.shape, generator=source) * 2 * bound - bound
            param.data.copy_(drawn)
