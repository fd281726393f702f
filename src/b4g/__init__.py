"""Backdoor4Good: implant, measure, attack and report beneficial backdoors in language models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from b4g.api import implant, measure
    from b4g.backdoor import Backdoor
    from b4g.bench.api import bench
    from b4g.errors import B4GError
    from b4g.keys import generate as keygen
    from b4g.models.load import load_model
    from b4g.registry import register
    from b4g.report.build import write_report
    from b4g.stats import Rate

__all__ = [
    "B4GError",
    "Backdoor",
    "Rate",
    "bench",
    "implant",
    "keygen",
    "load_model",
    "measure",
    "register",
    "write_report",
]
_HOMES = {
    "B4GError": ("b4g.errors", "B4GError"),
    "Backdoor": ("b4g.backdoor", "Backdoor"),
    "Rate": ("b4g.stats", "Rate"),
    "bench": ("b4g.bench.api", "bench"),
    "implant": ("b4g.api", "implant"),
    "keygen": ("b4g.keys", "generate"),
    "load_model": ("b4g.models.load", "load_model"),
    "measure": ("b4g.api", "measure"),
    "register": ("b4g.registry", "register"),
    "write_report": ("b4g.report.build", "write_report"),
}


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; `import b4g` does not.
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'b4g' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
