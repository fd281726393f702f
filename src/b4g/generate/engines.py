"""Engines by name, behind one interface: who is asked goes in, what answers comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from b4g.errors import SpecError, unknown
from b4g.generate.base import Generator

BASE = "base"
TRANSFORMERS, VLLM, ENDPOINT = ENGINES = ("transformers", "vllm", "endpoint")


@dataclass(frozen=True)
class Options:
    """What an engine is told; each takes what concerns it."""

    dtype: str = "auto"
    url: str = field(default="", repr=False)
    """endpoint: its address, which may hold credentials."""
    served: Mapping[str, str] = field(default_factory=dict)
    """endpoint: the name there of each subject, by what the subject is called here."""
    key_variable: str | None = None
    """endpoint: the environment variable that holds the key."""
    workers: int = 8
    """endpoint: requests at once."""
    python: str = ""
    """vllm: the python of vLLM's own environment."""
    gpus: int = 1
    """vllm: GPUs that share the model."""
    checked: bool = True
    """transformers: whether an implant that was made for another base is refused."""


class Engine(Protocol):
    """An engine with a base and its adapters within reach; leaving it gives back what it holds."""

    name: str

    def generator(self, who: str) -> Generator:
        """Return what answers for the base (``base``) or an adapter, by its name; `B4GError` where it can't."""
        ...

    def close(self) -> None:
        """Give back processes and memory."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def engine(name: str, base: str, adapters: Mapping[str, Path] | None = None, options: Options | None = None) -> Engine:
    """Return the engine of that name for a base and the folders of its implants; `SpecError` names what is near.

    ``base`` and ``adapters`` mean nothing to an endpoint, which has what it serves.
    """
    options, folders = options or Options(), dict(adapters or {})
    if name == ENDPOINT:
        return _Endpoint(options)
    if name == VLLM:
        from b4g.generate.vllm import Vllm, VllmEngine

        return VllmEngine(base, folders, Vllm(python=options.python, dtype=options.dtype, gpus=options.gpus))
    if name == TRANSFORMERS:
        return _Transformers(base, folders, options)
    raise SpecError(unknown("engine", name, ENGINES))


def engine_of(identity: str) -> str:
    """Return the name of the engine that an identity in a record speaks of; a bare hash is that of transformers."""
    head, dash, _ = identity.partition("-")
    return head if dash and head in ENGINES else TRANSFORMERS


class _Held:
    """An engine that holds nothing between two questions."""

    def close(self) -> None:
        """Give nothing back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Transformers(_Held):
    """The engine of this process: a subject's weights are loaded when it is asked for."""

    name = TRANSFORMERS

    def __init__(self, base: str, adapters: Mapping[str, Path], options: Options) -> None:
        self.base, self.adapters, self.options = base, adapters, options

    def generator(self, who: str) -> Generator:
        from b4g.generate.local import LocalGenerator
        from b4g.models.load import load_implant, load_model

        if who == BASE:
            return LocalGenerator(load_model(self.base, dtype=self.options.dtype))
        if who not in self.adapters:
            raise SpecError(unknown("subject", who, [BASE, *self.adapters]))
        return LocalGenerator(load_implant(self.base, self.adapters[who], self.options.dtype, self.options.checked))


class _Endpoint(_Held):
    """What a server has, by the names it goes by there."""

    name = ENDPOINT

    def __init__(self, options: Options) -> None:
        if not options.url:
            raise SpecError("the engine endpoint needs an address: --endpoint http://localhost:8000/v1")
        if not options.served:
            raise SpecError("the engine endpoint needs the model's name there: --served NAME")
        self.options = options

    def generator(self, who: str) -> Generator:
        from b4g.generate.endpoint import Endpoint
        from b4g.generate.served import ServedGenerator

        options = self.options
        if who not in options.served:
            raise SpecError(unknown("served subject", who, options.served))
        return ServedGenerator(Endpoint(options.url, options.served[who], options.key_variable), options.workers)
