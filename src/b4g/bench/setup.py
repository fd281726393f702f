"""From what a user asks for to a plan, the same in the driver and in each worker."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from b4g import registry
from b4g.backdoor import TASKS, Backdoor
from b4g.bench.choose import with_activation
from b4g.bench.plan import Base, Extra, Plan, make_plan
from b4g.bench.presets import preset
from b4g.measure.asking import Size
from b4g.measure.stealth import size_of
from b4g.models.dtype import dtype_name
from b4g.models.source import content_hash, resolve
from b4g.scanners.suite import scanners
from b4g.tampers.base import Tamper
from b4g.tampers.parse import suite


class FoundOut(NamedTuple):
    """What a run does to find its implants out, as people type it."""

    scans: tuple[str, ...] = ()
    """Scanners: quick, full, or kind:option=value."""
    stealth: str = ""
    """Size of the measures of confidentiality, accident and reliability: quick or full."""
    traffic: tuple[str, ...] = ()
    """Local files of ordinary prompts for the measure of accident."""
    paraphrases: str = ""
    """Local file of prompts in other words or languages for the measure of reliability."""


def arguments(
    model: str,
    tasks: tuple[str, ...] = TASKS,
    preset_name: str = "quick",
    seed: int = 0,
    plugins: tuple[str, ...] = (),
    tampers: tuple[str, ...] = (),
    found_out: FoundOut | None = None,
) -> dict[str, Any]:
    """Return the arguments of a run as plain JSON: what `plan_of` takes, in this process or another."""
    anchored = tuple(str(Path(task).resolve()) if Path(task).is_file() else task for task in tasks)
    return {
        "model": model,
        "tasks": anchored,
        "preset": preset_name,
        "seed": seed,
        "plugins": plugins,
        "tampers": tampers,
        **(found_out or FoundOut())._asdict(),
    }


def _stealth(asked: Mapping[str, Any]) -> Size | None:
    name = asked.get("stealth", "")
    return size_of(name, asked["traffic"], asked["paraphrases"]) if name else None


def plan_of(asked: Mapping[str, Any]) -> Plan:
    """Return the plan; a bad name of a model, task, preset or plug-in raises before any compute."""
    return Planner().plan(asked)


class Planner:
    """Makes plans; weights are hashed and specifications read once for all of them."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, str], Base] = {}
        self._backdoors: dict[tuple[str, str], Backdoor] = {}
        self._tampers: dict[tuple[str, ...], tuple[Tamper, ...]] = {}

    def plan(self, asked: Mapping[str, Any]) -> Plan:
        """Return the plan of `arguments`; ``activation`` and ``dtype`` among them replace the tasks' and this machine's."""
        registry.load_plugins(tuple(Path(path) for path in asked["plugins"]))
        sizes = preset(asked["preset"])
        backdoors = [self._backdoor(task, asked.get("activation", "")) for task in asked["tasks"]]
        base = self._base(asked["model"], dtype_name(asked.get("dtype", "auto")))
        tampers = self._suite(asked["tampers"], base.place)
        extra = Extra(tampers, scanners(asked.get("scans", ())), _stealth(asked))
        return make_plan(base, backdoors, sizes, asked["seed"], extra)

    def _backdoor(self, task: str, activation: str) -> Backdoor:
        if (task, activation) not in self._backdoors:
            found = with_activation(Backdoor.from_yaml(task), activation)
            found.trigger.hidden()  # a missing key file is found now
            self._backdoors[task, activation] = found
        return self._backdoors[task, activation]

    def _base(self, model: str, dtype: str) -> Base:
        if (model, dtype) not in self._bases:
            source = resolve(model)
            self._bases[model, dtype] = Base(source.name, source.place, content_hash(source), dtype)
        return self._bases[model, dtype]

    def _suite(self, names: Sequence[str], place: str) -> tuple[Tamper, ...]:
        key = (place, *names)
        if key not in self._tampers:
            self._tampers[key] = suite(names)
            for tamper in self._tampers[key]:
                tamper.check(None, place)
        return self._tampers[key]
