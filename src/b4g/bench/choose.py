"""Another activation in place of a task's own: ``full``, ``lora:rank=4,epochs=2``."""

import dataclasses
import json
from typing import Any

from b4g import registry
from b4g.backdoor import Backdoor
from b4g.errors import SpecError

OWN = ""
"""What is asked for where each task keeps the activation of its specification."""


def with_activation(backdoor: Backdoor, text: str) -> Backdoor:
    """Return the backdoor with the activation that a text names; raises `SpecError` for a wrong kind, option or value.

    Of the task's own kind only the options given are changed. Another kind starts from its defaults and trains on the
    task's rows: the mix belongs to the task.
    """
    if text == OWN:
        return backdoor
    kind, options = parse(text)
    own = registry.describe(backdoor.activation)
    known = {field.name for field in dataclasses.fields(registry.get("activation", kind))}
    fields = own if kind == own["kind"] else {"kind": kind, **({"mix": own["mix"]} if "mix" in known else {})}
    return dataclasses.replace(backdoor, activation=registry.build("activation", {**fields, **options}))


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return the kind and the options of ``kind:option=value,...``; a comma in brackets parts no options."""
    kind, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, _split(rest)):
        name, sign, value = part.partition("=")
        if not sign:
            raise SpecError(f"an activation is written kind:option=value,option=value, not '{text}' (see '{part}')")
        options[name.strip()] = _value(value.strip())
    return kind.strip(), options


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
