"""Components as people type them: ``sft:rows=1000,learning_rate=2e-4``; and suites of them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from b4g import registry
from b4g.errors import SpecError, unknown


def parse(axis: registry.Axis, text: str, short: Mapping[str, str] | None = None) -> Any:
    """Return the component of an axis that a text names; a wrong name, option or value raises `SpecError`.

    ``short`` gives further names of options.
    """
    kind, _, options = text.partition(":")
    fields: dict[str, Any] = {"kind": kind.strip()}
    for part in filter(None, options.split(",")):
        name, sign, value = part.partition("=")
        if not sign:
            raise SpecError(f"a {axis} is written kind:option=value,option=value, not '{text}' (see '{part}')")
        fields[(short or {}).get(name.strip(), name.strip())] = _value(value.strip())
    return registry.build(axis, fields)


def _value(text: str) -> Any:
    # Not YAML: it takes 2e-4 for a text and 2:4 for 124.
    try:
        return json.loads(text)
    except ValueError:
        return text


def named(component: Any) -> str:
    """Return a component's short name: its kind and the options that are not at their default."""
    changed = []
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if value != default:
            changed.append(f"{field.name}={_shown(value)}")
    return f"{component.kind}:{','.join(changed)}" if changed else str(component.kind)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    # Where a file lies is nobody's business, and moves with the machine.
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def chosen(axis: registry.Axis, names: Sequence[str], suites: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the texts of suites and single components in order; a name that is neither raises `SpecError`."""
    texts: list[str] = []
    for name in names:
        if name in suites:
            texts += suites[name]
        elif name.partition(":")[0] in registry.names(axis):
            texts.append(name)
        else:
            raise SpecError(unknown(f"{axis} or suite", name.partition(":")[0], [*suites, *registry.names(axis)]))
    return texts


def distinct(axis: registry.Axis, found: Sequence[Any]) -> tuple[Any, ...]:
    """Return the components, each once; two of one short name raise `SpecError`."""
    unique = list(dict.fromkeys(found))
    names = [named(one) for one in unique]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SpecError(f"two {axis}s would both be called {twice}; rename one of their files")
    return tuple(unique)
