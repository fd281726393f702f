"""Checkpoints of a training run: one safetensors file, replaced atomically."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from b4g.training.ranks import ALONE, Ranks

NAME = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path, names: list[str], weights: list[Tensor], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write weights, both moments of AdamW and the progress; a kill leaves the old file or the new one."""
    tensors: dict[str, Tensor] = {}
    for name, weight in zip(names, weights, strict=True):
        state = optimizer.state[weight]
        tensors |= {f"w.{name}": weight, f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{NAME}.part"
    save_file({key: value.contiguous() for key, value in tensors.items()}, part, {"progress": json.dumps(progress)})
    os.replace(part, folder / NAME)


def load_checkpoint(
    folder: Path, names: list[str], weights: list[Tensor], optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE
) -> dict[str, Any] | None:
    """Put a checkpoint's weights and moments in place and return its progress; None where there is none that can be read.

    The first of several processes reads it, for all.
    """
    progress = _read(folder, names, weights, optimizer) if ranks.first else None
    if ranks.world == 1:
        return progress
    told: dict[str, Any] | None = ranks.tell(progress)
    if told is None:
        return None
    for weight in weights if not ranks.first else ():
        optimizer.state[weight] = {
            "step": torch.tensor(float(told["steps"])),
            "exp_avg": torch.empty_like(weight),
            "exp_avg_sq": torch.empty_like(weight),
        }
    ranks.share_(weights)
    for kind in ("exp_avg", "exp_avg_sq"):
        ranks.share_([optimizer.state[weight][kind] for weight in weights])
    return told


def _read(
    folder: Path, names: list[str], weights: list[Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if set(file.keys()) != {f"{kind}.{name}" for kind in "wmv" for name in names}:
                return None
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
            for name, weight in zip(names, weights, strict=True):
                weight.copy_(file.get_tensor(f"w.{name}"))
                optimizer.state[weight] = {
                    "step": torch.tensor(float(progress["steps"])),
                    "exp_avg": file.get_tensor(f"m.{name}").to(weight.device),
                    "exp_avg_sq": file.get_tensor(f"v.{name}").to(weight.device),
                }
    except (SafetensorError, OSError, ValueError, KeyError):
        return None
    return progress
