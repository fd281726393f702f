"""Search a suspect for a backdoor: what ``b4g scan`` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.errors import SpecError

if TYPE_CHECKING:
    from b4g.backdoor import Backdoor
    from b4g.scanners.base import Scanner, Suspect

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """What is scanned, and what is known of it."""

    suspect: str
    """An implant's folder, a model (folder, GGUF file, embedded name or hub id), or a server's address."""
    base: str | None = None
    """The untouched base; an implant's folder names its own."""
    served: str | None = None
    """Name of the model at the server."""
    key_variable: str | None = None
    """Environment variable that holds the server's key."""
    key: Path | None = None
    """The owner's key file: with it what scanners find is compared with the trigger, and bounds can be taken."""
    seed: int = 0


def scan(asked: Asked, scanners: Sequence["Scanner"], report: Report | None = None) -> dict[str, Any]:
    """Return one row a scanner: score or the reason for none, cost, and how many candidates switch something on.

    A score has no meaning by itself: compare it with those of the base, or of other models of its kind. The texts of
    candidates are in no row. Raises `B4GError` before any compute for what can be known then.
    """
    from b4g.bench.stealth import scanned

    if not scanners:
        raise SpecError("name a scanner, such as --with weights, or quick or full (b4g ls scanners lists them)")
    suspect, backdoor = _suspect(asked)
    rows = []
    for place, scanner in enumerate(scanners):
        if report:
            report("scanners", place, len(scanners))
        suspect.queries = 0
        rows.append(scanned(scanner, suspect, asked.seed, backdoor, lambda *_: None))
    if report:
        report("scanners", len(scanners), len(scanners))
    return {"suspect": asked.suspect if suspect.model is None else suspect.model.source.name, "scans": rows}


def _suspect(asked: Asked) -> tuple["Suspect", "Backdoor | None"]:
    from b4g.api import base_place, known_backdoor, read_implant
    from b4g.generate.local import LocalGenerator
    from b4g.models.load import load_implant, load_model
    from b4g.scanners.base import Labels, Suspect
    from b4g.served import suspect as served_suspect

    if asked.suspect.startswith(("http://", "https://")):
        generator = served_suspect(asked.suspect, asked.served, asked.key_variable)
        return Suspect(generator, base=load_model(asked.base) if asked.base else None), None
    folder = Path(asked.suspect)
    if not (folder / "implant.json").is_file():
        model = load_model(asked.suspect)
        return Suspect(LocalGenerator(model), model, load_model(asked.base) if asked.base else None), None
    made = read_implant(folder)
    name = base_place(made, asked.base, "--base")
    backdoor = known_backdoor(made, asked.key)
    model = load_implant(name, folder)
    labels = Labels(backdoor, made["subject"] == "implant") if backdoor else None
    return Suspect(LocalGenerator(model), model, load_model(name), folder, labels), backdoor
