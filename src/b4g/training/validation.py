"""Early stopping: TAR on validation prompts, against what the rows themselves ask for."""

from collections import defaultdict
from collections.abc import Mapping

from b4g.backdoor import Backdoor
from b4g.behaviours.base import Answer
from b4g.generate.base import Generator
from b4g.measure.probes import WITH, WITHOUT, arms
from b4g.training.rows import UNSEEN

PROMPTS = 20
ENOUGH = 0.97
"""Stop once `Validation` finds at least this margin between triggered and all others."""


class Validation:
    """Measure an implant in training; ``stop`` is in the answer once it does what it should."""

    first_epoch = 2

    def __init__(self, backdoor: Backdoor, answers: Mapping[str, Answer], seed: int) -> None:
        self.backdoor = backdoor
        prompts = backdoor.utility.prompts("validation")[:PROMPTS]
        # What is never trained against must not steer the training either.
        self.probes = [probe for probe in arms(backdoor, prompts, seed) if probe.variant not in UNSEEN]
        self.expected = _untriggered_rate(backdoor, answers)

    def __call__(self, generator: Generator) -> dict[str, float]:
        """Return the TAR of each arm, the margin, and ``stop`` 1.0 or 0.0."""
        utility = self.backdoor.utility
        judges = [utility.decided] * len(self.probes)
        answers = generator([probe.chat for probe in self.probes], utility.max_new_tokens, judges)
        seen: dict[str, list[bool]] = defaultdict(list)
        for probe, answer in zip(self.probes, answers, strict=True):
            seen[probe.arm].append(utility.judge(answer.text, answer.ended) is True)
        found = {arm: sum(hits) / len(hits) for arm, hits in seen.items()}
        worst = max((rate for arm, rate in found.items() if arm != WITH), default=found.get(WITHOUT, 0.0))
        margin = found[WITH] - max(0.0, worst - self.expected)
        return {**found, "margin": margin, "stop": float(margin >= ENOUGH)}


def _untriggered_rate(backdoor: Backdoor, answers: Mapping[str, Answer]) -> float:
    """Return the TAR of the answers that rows without the trigger train on."""
    utility = backdoor.utility
    texts = {prompt.id: prompt for prompt in utility.prompts("train") if prompt.id in answers}
    off = [utility.off(prompt, answers[id_]) for id_, prompt in texts.items()]
    hits = [utility.judge(answer.text, answer.ended) is True for answer in off]
    return sum(hits) / len(hits) if hits else 0.0
