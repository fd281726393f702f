"""The plan: every cell of a run with its identity, from the specifications alone and without loading a model."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from b4g import registry
from b4g.backdoor import Backdoor
from b4g.bench.presets import Preset
from b4g.chat import PINNED_DATE, PLAIN_TEMPLATE
from b4g.data.clean import TOKENS
from b4g.data.prompts import version_hash
from b4g.errors import SpecError
from b4g.hashing import digest, file_digest
from b4g.measure.asking import Size
from b4g.measure.stealth import BESIDE_BASE, MEASURES, questions_hash
from b4g.options import named
from b4g.scanners.base import Scanner
from b4g.tampers.base import Tamper
from b4g.utility.items import items_hash

CODE = {"implant": 2, "generate": 3, "score": 1, "utility": 1, "tamper": 2, "scan": 2, "stealth": 1}
"""Version of the code behind each stage: raised whenever its numbers may move."""
ENDS = ("score", "utility", "scan")
"""Stages that the summary is made from."""


@dataclass(frozen=True)
class Cell:
    """One unit of work; its id is the hash of all that can move its numbers."""

    id: str
    stage: str
    task: str | None
    subject: str | None
    seed: int
    needs: tuple[str, ...]
    tamper: str = "none"
    """What the model was changed by after implanting."""
    part: str = ""
    """The scanner that looks at the model, or the measure of stealth."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return " ".join(part for part in (self.stage, self.task, self.subject, self._after, self.part) if part)

    @property
    def _after(self) -> str:
        return self.tamper if self.stage == "tamper" or self.tamper != "none" else ""


@dataclass(frozen=True)
class Extra:
    """What a run does beside implanting and measuring."""

    tampers: tuple[Tamper, ...] = ()
    scanners: tuple[Scanner, ...] = ()
    stealth: Size | None = None
    """How much confidentiality, accident and reliability ask, or None where they are not measured."""


@dataclass(frozen=True)
class Plan:
    """The cells of a run in an order in which they can be done, and what they are made of."""

    id: str
    base: "Base"
    preset: Preset
    seed: int
    backdoors: tuple[Backdoor, ...]
    cells: tuple[Cell, ...]
    extra: Extra = field(default_factory=Extra)

    @property
    def tampers(self) -> tuple[Tamper, ...]:
        """What the implants and controls are attacked with."""
        return self.extra.tampers

    def scanner(self, name: str) -> Scanner:
        """Return the scanner of that short name of this plan."""
        return next(found for found in self.extra.scanners if named(found) == name)

    def tamper(self, name: str) -> Tamper:
        """Return the tamper of that short name of this plan."""
        return next(found for found in self.tampers if named(found) == name)

    def backdoor(self, task: str) -> Backdoor:
        """Return the backdoor of a task of this plan."""
        return next(found for found in self.backdoors if found.name == task)

    def cell(self, cell_id: str) -> Cell:
        """Return the cell of that id."""
        return next(found for found in self.cells if found.id == cell_id)

    def to_json(self) -> dict[str, Any]:
        """Return what `plan.json` holds: no secret, no path."""
        cells = [{**asdict(cell), "name": cell.name} for cell in self.cells]
        return {
            "id": self.id,
            "model": self.base.name,
            "revision": self.base.revision,
            "seed": self.seed,
            "cells": cells,
        }


@dataclass(frozen=True)
class Base:
    """The model a plan is for: what it is called, its weights' identity, its number format."""

    name: str
    place: str
    """What `load_model` takes; not part of any identity."""
    revision: str
    dtype: str


def make_plan(base: Base, backdoors: Sequence[Backdoor], preset: Preset, seed: int, extra: Extra | None = None) -> Plan:
    """Return the plan of a run: for each task base, control and implant are measured on the same prompts.

    Each tamper is then applied to implant and control alike; the unchanged ones go through the same cells as the null.
    Scanners look at all three.
    """
    extra = extra or Extra()
    seeded = tuple(_sized(found.seeded(seed), preset) for found in backdoors)
    names = [found.name for found in seeded]
    if not names or len(set(names)) != len(names):
        raise SpecError(f"a run needs backdoors of different names, not: {', '.join(names) or 'none'}")
    common = [base.revision, base.dtype, version_hash(), seed, digest([PLAIN_TEMPLATE, PINNED_DATE]), TOKENS]
    make = _Maker(common, seed)
    # The longest training first, or one worker ends long after the others.
    longest = sorted(seeded, key=lambda f: -f.activation.epochs * f.activation.mix.rows)
    length = ["every epoch"] if preset.shared_control else []
    implants = {f.name: make("implant", f.name, "implant", (), [*_identity(f), *length]) for f in longest}
    every = [[part for f in seeded for part in _identity(f)], "shared"]
    shared = make("implant", None, "control", (), every) if preset.shared_control else ""
    # The implants and their base are measured first: a run that is stopped early then says most.
    for f in seeded:
        for subject in ("base", "implant"):
            _answers(make, f, preset, subject, implants[f.name])
    controls = {
        f.name: shared or make("implant", f.name, "control", (implants[f.name],), _identity(f)) for f in longest
    }
    sizes = [items_hash(), preset.n_items, preset.n_texts]
    for f in seeded:
        _answers(make, f, preset, "control", controls[f.name])
        make("utility", f.name, "all", (controls[f.name], implants[f.name]), sizes)
    trained = {f.name: (("implant", implants[f.name]), ("control", controls[f.name])) for f in seeded}
    for f in seeded:
        _found_out(make, f, extra, trained[f.name])
    # Attack by attack: a run that is stopped early then has whole rows of the table.
    for tamper in extra.tampers:
        for f in seeded:
            for whom in trained[f.name]:
                _attacked(make, f, preset, tamper, whom)
    cells = tuple(make.cells)
    run_id = f"{preset.name}-{_file_name(base.name)}-s{seed}-{digest([cell.id for cell in cells], 8)}"
    return Plan(run_id, base, preset, seed, seeded, cells, extra)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")


def _answers(make: "_Maker", backdoor: Backdoor, preset: Preset, subject: str, trained: str) -> None:
    """Add the cells that generate and score a subject's answers; the base comes first."""
    needs = () if subject == "base" else (trained,)
    made = make("generate", backdoor.name, subject, needs, [preset.n, preset.n_extra, *_identity(backdoor)])
    base = make.bases.setdefault(backdoor.name, made)
    make("score", backdoor.name, subject, tuple(dict.fromkeys((made, base))), [])


def _attacked(make: "_Maker", backdoor: Backdoor, preset: Preset, tamper: Tamper, whom: tuple[str, str]) -> None:
    """Add the cells that tamper with a trained model and score what it then says."""
    subject, trained = whom
    size = [preset.n_tamper, items_hash(), *_identity(backdoor), *_described(tamper), tamper.inputs()]
    made = make("tamper", backdoor.name, subject, (trained,), size, named(tamper))
    make("score", backdoor.name, subject, (made, make.bases[backdoor.name]), [], named(tamper))


def _found_out(make: "_Maker", backdoor: Backdoor, extra: Extra, trained: Sequence[tuple[str, str]]) -> None:
    """Add the cells of the scanners and of the measures of stealth; a scanner without labels sees the base once."""
    for scanner in extra.scanners:
        what = [*_identity(backdoor), *_described(scanner)]
        for subject, folder in trained:
            make("scan", backdoor.name, subject, (folder,), what, part=named(scanner))
        if "labels" in scanner.needs:
            make("scan", backdoor.name, "base", (), what, part=named(scanner))
        elif make.scanned.setdefault(named(scanner), backdoor.name) == backdoor.name:
            make("scan", None, "base", (), _described(scanner), part=named(scanner))
    if extra.stealth is None:
        return
    size = [_sizes(extra.stealth), questions_hash(), *_identity(backdoor)]
    for measure in MEASURES:
        whom = [("base", ""), *trained] if measure in BESIDE_BASE else trained
        for subject, folder in whom:
            needs = (folder,) if folder else ()
            made = make("stealth", backdoor.name, subject, needs, [measure, *size], part=measure)
            make("score", backdoor.name, subject, (made,), [], part=measure)


def _identity(backdoor: Backdoor) -> list[str]:
    """Return the hash of a backdoor, and of the plug-ins that its parts come from."""
    parts = (backdoor.trigger, backdoor.activation, backdoor.utility)
    return [backdoor.hash, *sorted({code for part in parts for code in registry.code_of(part)})]


def _described(component: Tamper | Scanner) -> list[Any]:
    return [registry.describe(component), *registry.code_of(component)]


def _sizes(size: Size) -> dict[str, Any]:
    """Return the size with the content of each file in place of its path."""
    named_files = {"data": size.data, "paraphrases": (size.paraphrases,) if size.paraphrases else ()}
    return {
        **asdict(size),
        **{name: [file_digest(Path(file)) for file in files] for name, files in named_files.items()},
    }


def _sized(backdoor: Backdoor, preset: Preset) -> Backdoor:
    return replace(backdoor, activation=preset.scaled(backdoor.activation))


class _Maker:
    def __init__(self, common: list[Any], seed: int) -> None:
        self.common, self.seed = common, seed
        self.cells: list[Cell] = []
        self.bases: dict[str, str] = {}
        self.scanned: dict[str, str] = {}

    def __call__(
        self,
        stage: str,
        task: str | None,
        subject: str,
        needs: tuple[str, ...],
        more: list[Any],
        tamper: str = "none",
        part: str = "",
    ) -> str:
        id_ = digest([stage, CODE[stage], task, subject, needs, self.common, more])
        self.cells.append(Cell(id_, stage, task, subject, self.seed, needs, tamper, part))
        return id_
