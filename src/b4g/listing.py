"""What there is to choose from, by name, each with its one line."""

import inspect

from b4g import registry
from b4g.backdoor import TASKS, Backdoor
from b4g.bench.presets import PRESETS
from b4g.models.catalogue import CATALOGUE
from b4g.models.embedded import EMBEDDED


def listing() -> dict[str, dict[str, str]]:
    """Return name and line of everything that can be named, by kind."""
    found = {
        "models": {name: model.hub for name, model in EMBEDDED.items()}
        | {name: entry.line for name, entry in CATALOGUE.items()},
        "tasks": {task: _triplet(Backdoor.from_yaml(task)) for task in TASKS},
        "presets": {name: f"n={p.n} prompts an arm, {p.n_extra} in further arms" for name, p in PRESETS.items()},
    }
    for axis in registry.AXES:
        found[f"{axis}s"] = {name: _line(registry.get(axis, name)) for name in registry.names(axis)}
    return found


def _triplet(backdoor: Backdoor) -> str:
    return f"{backdoor.trigger.kind} -> {backdoor.utility.kind}, by {backdoor.activation.kind}"


def _line(component: type) -> str:
    return (inspect.getdoc(component) or "").split("\n", 1)[0]
