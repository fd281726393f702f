"""Records: what was asked and answered. Made once; scoring reads them and never generates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from b4g import keys
from b4g.backdoor import Backdoor
from b4g.errors import SuspectError
from b4g.generate.base import Generator, Progress
from b4g.measure.probes import Probe, wants_whole


@dataclass(frozen=True)
class Record:
    """One completion. The prompt is the bare one: no trigger, no key."""

    task: str
    subject: str
    """base, control or implant."""
    arm: str
    variant: str
    measure: str
    prompt_id: str
    prompt: str
    kind: str
    completion: str
    tokens: int | None
    """None where the engine does not count them."""
    ended: bool
    decided: bool
    renderer: str
    """Hash of the renderer that made the prompt's ids."""
    engine: str
    """Identity of the generator: engine, model, adapter, number format."""
    failed: str = ""
    """Why the engine gave no answer: such a record is unscored, whatever the judge makes of an empty text."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields; ``failed`` only where there is no answer."""
        fields = asdict(self)
        return fields if self.failed else {name: fields[name] for name in fields if name != "failed"}


def collect(
    generator: Generator, backdoor: Backdoor, found: Sequence[Probe], subject: str, progress: Progress | None = None
) -> list[Record]:
    """Return one record a probe, in their order; secrets that a completion repeats are redacted."""
    utility = backdoor.utility
    judges = [_never if wants_whole(probe, utility) else utility.decided for probe in found]
    hidden = backdoor.trigger.hidden()
    try:
        answers = generator([probe.chat for probe in found], utility.max_new_tokens, judges, progress)
    except SuspectError as error:
        raise type(error)(keys.redact(str(error), hidden)) from None
    return [
        Record(
            backdoor.name,
            subject,
            probe.arm,
            probe.variant,
            probe.measure,
            probe.prompt.id,
            probe.prompt.text,
            probe.prompt.kind,
            keys.redact(answer.text, hidden),
            answer.tokens,
            answer.ended,
            answer.decided,
            generator.renderer_hash,
            generator.identity,
            # A server's own words in an error may repeat the prompt.
            keys.redact(answer.failed, hidden),
        )
        for probe, answer in zip(found, answers, strict=True)
    ]


def _never(_: str) -> bool:
    return False
