"""Tampers as people type them: ``sft:rows=1000,learning_rate=2e-4``; and the suites of them that a run goes through."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from b4g import registry
from b4g.errors import SpecError, unknown
from b4g.tampers.base import Tamper

SHORT = {"lr": "learning_rate", "n": "demonstrations"}
"""What the field writes for some options."""
SUITES: dict[str, tuple[str, ...]] = {
    "none": (),
    "quick": (
        "none",
        "sft:rows=160",
        "unlock:demonstrations=32",
        "prune:share=0.3",
        "quantize:bits=4",
        "merge:weight=0.5",
    ),
    "full": (
        "none",
        "sft:rows=100",
        "sft:rows=400",
        "sft:rows=400,learning_rate=1e-3",
        "sft:rows=200,stages=3",
        "sft:rows=400,weights=full,learning_rate=2e-5",
        "sft-identity",
        "unlock:demonstrations=8",
        "unlock:demonstrations=32",
        "unlock:demonstrations=128",
        "overwrite",
        "dpo",
        "flush",
        "crow",
        "prune:share=0.2",
        "prune:share=0.4",
        "prune:share=0.5,method=wanda",
        "prune:method=wanda,pattern=2:4",
        "quantize:bits=8",
        "quantize:bits=4",
        "merge:weight=0.75",
        "merge:weight=0.5",
        "merge:weight=0.25",
        "noise:scale=0.05",
        "truncate:rank=4",
        "cleangen",
        "decoding:temperature=0.7",
    ),
}
"""Tampers by the name of their suite; the null comes first, since all others are compared with it."""


def parse(text: str) -> Tamper:
    """Return the tamper that a text names; a wrong name, option or value raises `SpecError` with the near ones."""
    kind, _, options = text.partition(":")
    fields: dict[str, Any] = {"kind": kind.strip()}
    for part in filter(None, options.split(",")):
        name, sign, value = part.partition("=")
        if not sign:
            raise SpecError(f"a tamper is written kind:option=value,option=value, not '{text}' (see '{part}')")
        fields[SHORT.get(name.strip(), name.strip())] = _value(value.strip())
    made: Tamper = registry.build("tamper", fields)
    return made


def _value(text: str) -> Any:
    # Not YAML: it takes 2e-4 for a text and 2:4 for 124.
    try:
        return json.loads(text)
    except ValueError:
        return text


def named(tamper: Tamper) -> str:
    """Return a tamper's short name: its kind and the options that are not at their default."""
    changed = []
    for field in dataclasses.fields(tamper):  # type: ignore[arg-type]
        value = getattr(tamper, field.name)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if value != default:
            changed.append(f"{field.name}={_shown(value)}")
    return f"{tamper.kind}:{','.join(changed)}" if changed else tamper.kind


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    # Where a file lies is nobody's business, and moves with the machine.
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def suite(names: Sequence[str]) -> tuple[Tamper, ...]:
    """Return the tampers of suites and single texts, each once, the null first where there is any other."""
    texts: list[str] = []
    for name in names:
        if name in SUITES:
            texts += SUITES[name]
        elif name.partition(":")[0] in registry.names("tamper"):
            texts.append(name)
        else:
            known = [*SUITES, *registry.names("tamper")]
            raise SpecError(unknown("tamper or suite", name.partition(":")[0], known))
    found = [parse(text) for text in texts]
    if found:
        found.insert(0, parse("none"))
    unique = list(dict.fromkeys(found))
    names = [named(tamper) for tamper in unique]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SpecError(f"two tampers would both be called {twice}; rename one of their files")
    return tuple(unique)
