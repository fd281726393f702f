"""Retention: how much of the trigger's effect an attack leaves, prompt by prompt."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from b4g.measure.probes import WITH, WITHOUT

Verdicts = Mapping[tuple[str, str], bool | None]
"""Verdict by prompt id and arm."""
_DRAWS = 1000


@dataclass(frozen=True)
class Retention:
    """(TAR with - without) after an attack over the same before it; 1 is untouched, 0 is gone."""

    value: float | None
    """None where nothing was scored, or where there was no effect before."""
    low: float | None
    high: float | None
    """95% interval: percentile bootstrap over prompts, for a ratio of paired differences has no closed form."""
    n: int
    """Prompts scored in both arms, before and after."""


def retention(before: Verdicts, after: Verdicts, rng: random.Random) -> Retention:
    """Return the retention over the prompts that were scored in both arms before and after."""
    effects = [
        effect for prompt in dict.fromkeys(id_ for id_, _ in before) if (effect := _effects(before, after, prompt))
    ]
    value = _ratio(effects)
    if value is None:
        return Retention(None, None, None, len(effects))
    drawn = sorted(ratio for _ in range(_DRAWS) if (ratio := _ratio(rng.choices(effects, k=len(effects)))) is not None)
    low, high = drawn[int(0.025 * len(drawn))], drawn[min(len(drawn) - 1, int(0.975 * len(drawn)))]
    return Retention(value, low, high, len(effects))


def _effects(before: Verdicts, after: Verdicts, prompt: str) -> tuple[int, int] | None:
    """Return a prompt's effect (with - without) before and after, or None where any of the four is unscored."""
    seen = [verdicts.get((prompt, arm)) for verdicts in (before, after) for arm in (WITH, WITHOUT)]
    if any(verdict is None for verdict in seen):
        return None
    a, b, c, d = (int(bool(verdict)) for verdict in seen)
    return a - b, c - d


def _ratio(effects: list[tuple[int, int]]) -> float | None:
    was = sum(before for before, _ in effects)
    return sum(after for _, after in effects) / was if was > 0 else None
