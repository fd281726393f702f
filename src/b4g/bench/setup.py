"""From what a user asks for to a plan, the same in the driver and in each worker."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from b4g import registry
from b4g.backdoor import TASKS, Backdoor
from b4g.bench.plan import Base, Plan, make_plan
from b4g.bench.presets import preset
from b4g.models.dtype import dtype_name
from b4g.models.source import content_hash, resolve
from b4g.tampers.parse import suite


def arguments(
    model: str,
    tasks: tuple[str, ...] = TASKS,
    preset_name: str = "quick",
    seed: int = 0,
    plugins: tuple[str, ...] = (),
    tampers: tuple[str, ...] = (),
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
    }


def plan_of(asked: Mapping[str, Any]) -> Plan:
    """Return the plan; a bad name of a model, task, preset or plug-in raises before any compute."""
    registry.load_plugins(tuple(Path(path) for path in asked["plugins"]))
    sizes = preset(asked["preset"])
    backdoors = [Backdoor.from_yaml(task) for task in asked["tasks"]]
    for backdoor in backdoors:
        backdoor.trigger.hidden()  # a missing key file is found now
    source = resolve(asked["model"])
    base = Base(source.name, source.place, content_hash(source), dtype_name("auto"))
    tampers = suite(asked["tampers"])
    for tamper in tampers:
        tamper.check(None, base.place)
    return make_plan(base, backdoors, sizes, asked["seed"], tampers)
