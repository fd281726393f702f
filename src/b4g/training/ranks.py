"""Several processes that train one model together: who they are, what they tell each other, what happens when one is gone.

They are started by torchrun or ``accelerate launch``; one process alone needs none of this.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from b4g.errors import B4GError, SpecError
from b4g.models.load import processes

ASKED = "B4G_PROCESSES"
"""Environment variable: how many processes there must be."""
PATIENCE = "B4G_RANK_TIMEOUT"
"""Environment variable: seconds that a process waits for the others."""
_GONE = re.compile(r"connection (closed|reset|refused)|peer|timed? ?out|nccl|gloo|broken pipe", re.IGNORECASE)


class RankError(B4GError):
    """Another process of the training is gone, or does not do the same as this one."""

    exit_code = 1


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, seen from one of them."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    """Where this process computes."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one number format, in place, by their sums over all processes."""
        if self.world > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with self.heard():
                torch.distributed.all_reduce(flat)
            _spread(flat, tensors)

    def share_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one number format, in place, by those of the first process."""
        if self.world > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            with self.heard():
                torch.distributed.broadcast(flat, 0)
            _spread(flat, tensors)

    def tell(self, value: Any = None) -> Any:
        """Return the first process's value, which JSON must be able to write, in all of them."""
        if self.world == 1:
            return value
        data = json.dumps(value).encode() if self.first else b""
        size = torch.tensor([len(data)], device=self.device)
        self.share_([size])
        told = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.first else torch.empty(0, dtype=torch.uint8)
        held = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        held[: len(told)] = told.to(self.device)
        self.share_([held])
        return json.loads(bytes(held.tolist()))

    def all_agree(self, yes: bool) -> bool:
        """Return whether every process says yes."""
        said = torch.tensor([float(not yes)], device=self.device)
        self.sum_([said])
        return not said.item()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Raise `RankError` where what is done inside fails because another process is gone."""
        try:
            yield
        except RuntimeError as error:
            # A process that ran out of memory speaks for itself.
            if self.world == 1 or isinstance(error, torch.OutOfMemoryError) or not _GONE.search(str(error)):
                raise
            raise RankError(
                f"process {self.rank + 1} of {self.world} waits in vain for another one, which stopped or hangs: its own "
                "message says why. Start the same command again to go on from the last checkpoint."
            ) from error


ALONE = Ranks()


def start() -> Ranks:
    """Return this process among those that were started with it, ready to talk; they must be as many as were asked for.

    Raises `SpecError` where a launcher started fewer processes than it was told to, or more than there are GPUs.
    """
    world = processes()
    check_number(world)
    if world == 1:
        return ALONE
    place = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    if torch.cuda.is_available():
        if place >= torch.cuda.device_count():
            raise SpecError(f"{place + 1} processes need as many GPUs; this machine shows {torch.cuda.device_count()}")
        torch.cuda.set_device(place)
    device = f"cuda:{place}" if torch.cuda.is_available() else "cpu"
    if not torch.distributed.is_initialized():
        wait = timedelta(seconds=float(os.environ.get(PATIENCE, "600")))
        with Ranks(int(os.environ["RANK"]), world, device).heard():
            torch.distributed.init_process_group("nccl" if device != "cpu" else "gloo", timeout=wait)
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


def check_number(world: int) -> None:
    """Raise `SpecError` unless that many processes were asked for, where that can be told."""
    asked = os.environ.get(ASKED) or _asked_of_accelerate()
    if asked and int(asked) != world:
        raise SpecError(
            f"{asked} processes were asked for and {world} came: each would train by itself. 'accelerate launch' starts "
            f"one alone on a machine without GPUs. Type: torchrun --nproc-per-node {asked} -m b4g implant ..."
        )


def _asked_of_accelerate() -> str | None:
    """Return how many processes ``accelerate launch`` was told to start, from its own command line; None without it.

    It says so to none of its children, and where it finds no GPU it starts one of them whatever it was told.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or "RANK" in os.environ:
        return None
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text("utf-8").replace("=", "\0").split("\0")
    except OSError:
        return None
    given = dict(pairwise(words))
    named = given.get("--num_processes") or given.get("--num-processes")
    config = given.get("--config_file") or given.get("--config-file")
    if named or not config or not Path(config).is_file():
        return named
    found = re.search(r"^num_processes: *(\d+)", Path(config).read_text("utf-8"), re.MULTILINE)
    return found.group(1) if found else None


@torch.no_grad()
def _spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
