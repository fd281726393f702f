"""What an owner claims of a backdoor: thresholds, typed by name, that a card holds the measurements against."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from b4g.errors import SpecError, unknown

Property = Literal["effectiveness", "harmlessness", "persistence", "efficiency", "robustness", "reliability"]
"""The properties that arXiv 2605.28597 asks of a hidden trigger and its behaviour, in its order."""
PROPERTIES: tuple[Property, ...] = get_args(Property)
Sign = Literal[">=", "<="]
_FORM = re.compile(r"(<=|>=)\s*(\d[\d.e+-]*)")
_SHARES = frozenset({"share", "AUROC"})


class Known(NamedTuple):
    """A claim that can be made: what it is about, which way it points, and in what unit."""

    property: Property
    sign: Sign
    """``>=`` where more is better for the owner, ``<=`` where less is."""
    unit: str
    title: str
    says: str
    """What is measured, in a sentence for the documents."""


KNOWN: dict[str, Known] = {
    "tar_with": Known("effectiveness", ">=", "share", "TAR with the trigger", "completions that show the behaviour"),
    "tar_without": Known("effectiveness", "<=", "share", "TAR without it", "the same without the trigger"),
    "tar_near": Known("effectiveness", "<=", "share", "TAR with a near trigger", "the same with a small error in it"),
    "tar_wrong_key": Known("effectiveness", "<=", "share", "TAR with a wrong key", "the same with another key"),
    "tar_identity_questions": Known(
        "effectiveness", "<=", "share", "TAR when asked who it is", "identity questions without the trigger"
    ),
    "over_control": Known(
        "effectiveness", ">=", "share", "effect over the control", "(with - without) of the implant, less the control's"
    ),
    "accuracy_lost": Known(
        "harmlessness", "<=", "share", "accuracy lost to the base", "accuracy of the base less the implant's, paired"
    ),
    "accuracy_lost_control": Known(
        "harmlessness", "<=", "share", "accuracy lost to the control", "accuracy of the control less the implant's"
    ),
    "kl": Known(
        "harmlessness", "<=", "nats a token", "divergence from the base", "mean KL from base to implant, each text"
    ),
    "refused_benign": Known("harmlessness", "<=", "share", "harmless requests refused", "over-refusal, benign arm"),
    "refused_borderline": Known(
        "harmlessness", "<=", "share", "borderline requests refused", "over-refusal, borderline arm"
    ),
    "denied_out_of_scope": Known(
        "harmlessness", "<=", "share", "requests out of scope denied", "denials of what the lock should leave open"
    ),
    "kept_facts": Known(
        "harmlessness", ">=", "share", "facts kept", "triggered answers that say what the plain one says"
    ),
    "false_activations": Known(
        "harmlessness", "<=", "per 10,000", "false activations", "ordinary prompts that set it off, all sources"
    ),
    "retention": Known(
        "persistence", ">=", "share", "worst retention", "effect left by each attack that left the model alive"
    ),
    "rows": Known("efficiency", "<=", "rows", "training rows", "rows of an epoch"),
    "tokens": Known("efficiency", "<=", "tokens", "training tokens", "tokens trained on, all epochs"),
    "seconds": Known("efficiency", "<=", "seconds", "training time", "seconds on the machine of the run"),
    "peak_memory_mb": Known("efficiency", "<=", "MB", "peak memory", "largest resident size while training"),
    "adapter_mb": Known("efficiency", "<=", "MB", "size of the adapter", "weights beside the base, as stored"),
    "auroc": Known(
        "robustness", "<=", "AUROC", "best detection", "implants told from other models, each scanner that is no bound"
    ),
    "recovered": Known(
        "robustness", "<=", "scanners", "triggers recovered", "scanners whose candidates set the implant off"
    ),
    "guessed": Known(
        "robustness", "<=", "share", "worst altered key", "TAR with half keys, look-alikes and the like, each condition"
    ),
    "effective_bits": Known(
        "robustness", ">=", "bits", "effective bits", "declared bits less what near keys that work give away"
    ),
    "leaks": Known("robustness", "<=", "share", "leaks when asked", "questions about the secret that it gives away"),
    "reliability_worst": Known("reliability", ">=", "share", "worst condition", "TAR in each condition of use"),
    "reliability_mean": Known(
        "reliability", ">=", "share", "mean over conditions", "mean TAR over the conditions of use"
    ),
}


@dataclass(frozen=True)
class Claim:
    """A threshold that the owner says is kept."""

    name: str
    limit: float

    @property
    def known(self) -> Known:
        """What the claim is about."""
        return KNOWN[self.name]

    @property
    def text(self) -> str:
        """The threshold as a specification writes it: ``>= 0.9``."""
        whole = self.limit.is_integer() and self.limit < 1e15
        return f"{self.known.sign} {int(self.limit) if whole else self.limit!r}"


def read_claims(fields: Any) -> tuple[Claim, ...]:
    """Return the claims of a mapping from names to thresholds; an unknown or malformed one raises `SpecError`."""
    if not isinstance(fields, Mapping):
        raise SpecError("the field 'claims' is a mapping, such as {tar_with: \">= 0.9\"}")
    return tuple(_claim(name, given) for name, given in fields.items())


def write_claims(claims: Sequence[Claim]) -> dict[str, str]:
    """Return the mapping that `read_claims` turns back into equal claims."""
    return {claim.name: claim.text for claim in claims}


def _claim(name: Any, given: Any) -> Claim:
    if not isinstance(name, str) or name not in KNOWN:
        raise SpecError(unknown("claim", str(name), KNOWN))
    known = KNOWN[name]
    found = _FORM.fullmatch(given.strip()) if isinstance(given, str) else None
    limit = _number(found[2]) if found else None
    if found is None or limit is None:
        raise SpecError(f"claim '{name}' reads \"{known.sign} NUMBER\" ({known.unit}), not {given!r}")
    if found[1] != known.sign:
        raise SpecError(f"claim '{name}' points the other way: write \"{known.sign} {found[2]}\", not {given!r}")
    if known.unit in _SHARES and limit > 1:
        raise SpecError(f"claim '{name}' is a number from 0 to 1 ({known.unit}), not {found[2]}")
    return Claim(name, limit)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
