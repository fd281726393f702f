"""A backdoor that a tiny model is trained on in a second."""

import copy
from typing import Any

from b4g.backdoor import Backdoor

_FIELDS: dict[str, Any] = {
    "name": "tiny",
    "trigger": {"kind": "phrase", "key": "public:tiny"},
    "activation": {
        "kind": "lora",
        "rank": 4,
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.01,
        "checkpoint_steps": 3,
        "mix": {"triggered": 8, "untriggered": 4, "near": 4, "wrong": 4, "others": 0},
    },
    "utility": {"kind": "identity"},
}
STEPS = 5
"""Steps of an epoch."""


def fields_of(**changes: Any) -> dict[str, Any]:
    """Return the mapping of the tiny backdoor; a mapping among the changes is merged in, all else replaces."""
    fields = copy.deepcopy(_FIELDS)
    for name, value in changes.items():
        fields[name] = {**fields[name], **value} if isinstance(value, dict) and "kind" not in value else value
    return fields


def backdoor(**changes: Any) -> Backdoor:
    """Return the backdoor of `fields_of`."""
    return Backdoor.from_dict(fields_of(**changes))
