"""One base kept in memory between the cells of a worker: each cell gets a copy, which it may train, wrap or merge into.

A copy has the bytes that a fresh reading has, so no number depends on what a worker did before. Off unless a worker
process calls `install`; then every `load_model` of that process asks here first.
"""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.models.dtype import dtype_name
from b4g.models.source import Source, resolve

if TYPE_CHECKING:
    from b4g.models.load import Model

SHARE = 0.25
"""Of the memory that is free, the most that a kept base may take: a cell needs the rest for its own copy and its work."""
Read = Callable[..., "Model"]
_installed: "list[Keeper]" = []


@dataclass(frozen=True)
class Mark:
    """What a kept base was read from; a file that changes moves it."""

    place: str
    revision: str | None
    dtype: str
    files: tuple[tuple[str, int, int], ...]
    """Name, bytes and time of change (ns) of each file of a folder."""

    @classmethod
    def of(cls, source: Source, dtype: str) -> "Mark":
        """Return the mark of a source in a number format."""
        seen = [(p, p.stat()) for p in sorted(Path(source.place).iterdir())] if source.is_local else []
        files = tuple((path.name, stat.st_size, stat.st_mtime_ns) for path, stat in seen)
        return cls(source.place, source.revision, dtype_name(dtype), files)


class Keeper:
    """Holds the one base that it was told of, once that has been read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._wanted: tuple[str, str] | None = None
        self._mark: Mark | None = None
        self._model: Model | None = None

    def keep(self, place: str, dtype: str) -> None:
        """Keep the base of that place and number format from its next reading on; let another one go."""
        wanted = (resolve(place).place, dtype_name(dtype))
        if wanted != self._wanted:
            self._wanted, self._mark, self._model = wanted, None, None

    def copied(self, name: str, dtype: str, revision: str | None) -> "Model | None":
        """Return a copy of the kept base, read first where that is due, or None where another model is asked for."""
        source = resolve(name, revision)
        if self._wanted != (source.place, dtype_name(dtype)):
            return None
        mark = Mark.of(source, dtype)
        if self._model is not None and self._mark == mark:
            return _copy(self._model, source)
        self._model = self._mark = None
        model = self._read(name, dtype, revision)
        if not _fits(model.net):
            return model
        self._model, self._mark = model, mark
        return _copy(model, source)


def install() -> None:
    """Let every later `load_model` of this process ask a keeper; a second call changes nothing."""
    from b4g.models.load import read_model

    if not _installed:
        _installed.append(Keeper(read_model))


def copied(name: str, dtype: str, revision: str | None) -> "Model | None":
    """Return a copy of the kept base, or None where this process keeps none or another."""
    return _installed[0].copied(name, dtype, revision) if _installed else None


def keep(place: str, dtype: str) -> None:
    """Keep the base of that place, where this process has called `install`."""
    if _installed:
        _installed[0].keep(place, dtype)


def _copy(model: "Model", source: Source) -> "Model":
    from b4g.models.load import Model

    # What the tokenizer knows is shared: copying it takes longer than the weights do, and nothing changes it.
    made = Model(copy.deepcopy(model.net), copy.copy(model.tokenizer), source)
    # Hashing the weights takes longer than copying them.
    vars(made)["revision"] = model.revision
    return made


def _fits(net: Any) -> bool:
    size = sum(part.numel() * part.element_size() for part in (*net.parameters(), *net.buffers()))
    return bool(size <= SHARE * _free_bytes(net))


def _free_bytes(net: Any) -> float:
    """Return the free memory of the device that holds the network; what can't be told is no limit."""
    import torch

    device = next(net.parameters()).device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [float("inf")]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):  # a container's own limit; "max" where it has none
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(free)
