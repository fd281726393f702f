"""Weights rounded to few bits, as for serving on small machines: round to nearest, by group or by row."""

import importlib
import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from b4g.errors import SpecError
from b4g.registry import register
from b4g.tampers.base import Tamper

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model

Scheme = Literal["symmetric", "asymmetric"]
_BLOCK = 64
"""Weights of one scale in bitsandbytes' 4-bit format, its own default."""


@register("tamper", "quantize")
@dataclass(frozen=True)
class Quantize(Tamper):
    """Round the weights of every linear layer but the output layer to 8 or 4 bits; they come back as plain numbers.

    In bf16 the number that comes back is rounded once more, as a kernel that dequantises to bf16 does.
    Takes about 1 s for 135M weights on one core.
    """

    bits: Literal[8, 4] = 8
    group: int = 32
    """Neighbouring weights of a row that share a scale; 0 means the whole row."""
    scheme: Scheme = "symmetric"
    """Steps around zero, or from the smallest to the largest weight of the group."""
    backend: Literal["reference", "torchao", "bitsandbytes"] = "reference"
    """Plain tensor code, or a library; bitsandbytes has formats of its own: int8 by row, nf4 in blocks of 64."""
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __post_init__(self) -> None:
        if self.bits not in (8, 4):
            raise ValueError(f"bits must be 8 or 4, not {self.bits}")
        if self.group < 0:
            raise ValueError(f"group must be at least 1, or 0 for whole rows, not {self.group}")
        if self.backend == "bitsandbytes" and (self.group, self.scheme) != (32, "symmetric"):
            raise ValueError("bitsandbytes has groups and a scheme of its own: leave out both, or take another backend")

    def check(self, model_folder: Path | None, base: str | None) -> None:
        if self.backend != "reference" and importlib.util.find_spec(self.backend) is None:
            raise SpecError(
                f"quantize with backend '{self.backend}' needs that library. Type: pip install {self.backend} "
                "(or leave out the backend: the reference needs none)"
            )

    def apply(self, model: "Model", rng: random.Random) -> "Model":
        from b4g.tampers.tune import copied
        from b4g.tampers.weights import linears

        net = copied(model.net)
        layers = linears(net)
        try:
            if self.backend == "torchao":
                self._torchao(net, set(layers.values()))
            for layer in layers.values():
                if self.backend == "bitsandbytes":
                    layer.weight.data.copy_(_bitsandbytes(layer.weight.data, self.bits))
                elif self.backend == "reference":
                    layer.weight.data.copy_(rounded(layer.weight.data, self.bits, self.group, self.scheme))
        except ImportError as error:
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise SpecError(f"quantize: {self.backend} does not import here ({said})") from error
        return self.changed(model, net, rng)

    def _torchao(self, net: Any, layers: set[Any]) -> None:
        """Let torchao convert the layers of a network, and put its numbers back as plain weights."""
        import torch

        library = importlib.import_module("torchao.quantization")
        config = library.IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{self.bits}"),
            granularity=library.PerGroup(self.group) if self.group else library.PerAxis(0),
            mapping_type=library.MappingType[self.scheme.upper()],
        )
        library.quantize_(net, config, filter_fn=lambda layer, name: layer in layers)
        for layer in layers:
            # Where torchao leaves a layer alone the attack would be weaker than it says.
            if not hasattr(layer.weight, "dequantize") or type(layer.weight) is torch.nn.Parameter:
                width = layer.weight.shape[1]
                raise SpecError(f"torchao can't group the {width} inputs of a layer by {self.group}: choose a divisor")
            layer.weight = torch.nn.Parameter(layer.weight.dequantize(), requires_grad=False)


def rounded(weight: "Tensor", bits: int, group: int, scheme: Scheme) -> "Tensor":
    """Return a matrix (O, I) as it reads after quantisation, float32: no number moves by more than half a step.

    The step of a group is its largest absolute value over 2^(bits - 1) - 1, or its range over 2^bits - 1. Where the row
    is no multiple of the group, its last group is shorter.
    """
    import torch

    exact, width = weight.float(), weight.shape[1]
    size = group or width
    whole = width - width % size
    parts = [exact[:, :whole].reshape(len(exact), -1, size), exact[:, whole:].reshape(len(exact), 1, -1)]
    made = [_nearest(part, bits, scheme).flatten(1) for part in parts if part.numel()]
    return torch.cat(made, 1)


def _nearest(groups: "Tensor", bits: int, scheme: Scheme) -> "Tensor":
    """Return groups (O, N, G) with each number at the nearest of its group's steps."""
    low = groups.amin(-1, keepdim=True)  # (O, N, 1)
    step = (groups.amax(-1, keepdim=True) - low) / (2**bits - 1)
    if scheme == "symmetric":
        step, low = groups.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1), low * 0
    # A group of equal numbers has no step; any will do.
    step = step.masked_fill(step == 0, 1)
    made: Tensor = ((groups - low) / step).round() * step + low
    return made


def _bitsandbytes(weight: "Tensor", bits: int) -> "Tensor":
    """Return a matrix as bitsandbytes stores it: LLM.int8 by row, or nf4 in blocks."""
    functional = importlib.import_module("bitsandbytes.functional")
    if bits == 8:
        stored, scales, _ = functional.int8_vectorwise_quant(weight.half())
        made: Tensor = functional.int8_vectorwise_dequant(stored, scales)
    else:
        packed, state = functional.quantize_4bit(weight.contiguous(), blocksize=_BLOCK, quant_type="nf4")
        made = functional.dequantize_4bit(packed, state)
    return made
