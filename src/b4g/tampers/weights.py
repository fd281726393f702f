"""What tampers of weights share: the linear layers, the untouched base, the adapter that an implant is."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.errors import B4GError, ModelError, SpecError

if TYPE_CHECKING:
    import torch

    from b4g.models.load import Model


def linears(net: Any) -> dict[str, Any]:
    """Return the linear layers by name, the output layer left out; none at all raises `ModelError`."""
    from torch.nn import Linear

    out = net.get_output_embeddings()
    found = {name: part for name, part in net.named_modules() if isinstance(part, Linear) and part is not out}
    if not found:
        raise ModelError(f"{type(net).__name__} has no linear layers: this tamper would leave it as it is")
    return found


def source_of(rng: random.Random) -> "torch.Generator":
    """Return torch's generator for the next draws of ``rng``, on the CPU: a device draws other numbers."""
    import torch

    return torch.Generator().manual_seed(rng.getrandbits(63))


@contextmanager
def seeded(device: "torch.device", seed: int) -> "Iterator[None]":
    """Run what draws from torch's own global generator, as PEFT does, under a seed; put the generator back."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def base_of(model: "Model", named: str = "") -> "Model":
    """Return the untouched base, freshly loaded in the model's number format; ``named`` says which, if it is given.

    An implant of all weights knows its base by name alone: where no model of that name has the weights that it was made
    from, `ModelError` says so.
    """
    from b4g.models.load import load_model

    dtype = str(model.net.dtype).removeprefix("torch.")
    if named:
        return load_model(named, dtype=dtype)
    if model.folder is None or is_adapter(model.folder):
        return load_model(model.source.place, dtype=dtype, revision=model.source.revision)
    card = model.folder / "implant.json"
    try:
        made = json.loads(card.read_text("utf-8"))["model"]
        base = load_model(made["name"], dtype=dtype)
        wanted = made["revision"]
    except (OSError, ValueError, LookupError, TypeError, B4GError) as error:
        raise ModelError(f"the base of {model.folder} can't be found ({error}); name it in the tamper") from None
    if base.revision != wanted:
        raise ModelError(f"{made['name']} is not what {model.folder} was made from ({wanted}); name its base")
    return base


def is_adapter(folder: Path) -> bool:
    """Return whether an implant's folder holds a PEFT adapter, not a whole model."""
    return (folder / "adapter_config.json").is_file()


def adapter_rank(folder: Path | str, tamper: str) -> int:
    """Return the largest rank of the LoRA adapter in a folder; a folder without one raises `SpecError`."""
    path = Path(folder) / "adapter_config.json"
    if not path.is_file():
        raise SpecError(f"tamper '{tamper}' works on a LoRA adapter, and {folder} holds none (adapter_config.json)")
    try:
        config = json.loads(path.read_text("utf-8"))
        ranks = [int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise SpecError(f"tamper '{tamper}' works on a LoRA adapter; {path} describes none") from None
    return max(ranks)


def need_base(tamper: str, base: str | None) -> None:
    """Raise `SpecError` where no base is known to a tamper that takes it."""
    if not base:
        raise SpecError(f"tamper '{tamper}' needs the untouched base, and none is known: name it")
