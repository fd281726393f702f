"""Scores: a verdict for each record, and the rates and paired differences made of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from b4g.behaviours.base import Behaviour
from b4g.measure.kept import kept
from b4g.measure.probes import ARMS, NEAR, WITH, WITHOUT
from b4g.measure.records import Record
from b4g.stats import Rate, paired


@dataclass(frozen=True)
class Score:
    """The verdict on one record."""

    task: str
    subject: str
    arm: str
    variant: str
    measure: str
    prompt_id: str
    verdict: bool | None
    kept: bool | None = None
    """Whether the answer kept its content; None where not asked or not to be told."""
    kept_null: bool | None = None
    """The same against another prompt's reference: what chance alone gives."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def references(base: Sequence[Record]) -> dict[str, str]:
    """Return the base's untriggered completions by prompt id: what `kept` compares with."""
    return {record.prompt_id: record.completion for record in base if record.arm == WITHOUT and not record.failed}


def score(records: Sequence[Record], behaviour: Behaviour, said: Mapping[str, str]) -> list[Score]:
    """Return one score a record, in order; nothing is generated. A record that failed gets no verdict."""
    scores = [
        Score(r.task, r.subject, r.arm, r.variant, r.measure, r.prompt_id, _verdict(r, behaviour)) for r in records
    ]
    if not behaviour.kept_arm:
        return scores
    asked = [r.prompt_id for r in records if r.arm == WITH and r.prompt_id in said]
    other = dict(zip(asked, [*asked[1:], *asked[:1]], strict=True))
    return [_with_kept(s, r, behaviour, said, other) for s, r in zip(scores, records, strict=True)]


def _verdict(record: Record, behaviour: Behaviour) -> bool | None:
    return None if record.failed else behaviour.judge(record.completion, record.ended)


def _with_kept(
    made: Score, record: Record, behaviour: Behaviour, said: Mapping[str, str], other: Mapping[str, str]
) -> Score:
    if record.arm != WITH or made.verdict is not True or record.prompt_id not in other:
        return made
    answer = behaviour.plain(record.completion)
    right, null = said[record.prompt_id], said[other[record.prompt_id]]
    return replace(made, kept=kept(right, answer), kept_null=kept(null, answer))


@dataclass(frozen=True)
class Context:
    """What a summary row says beside its rate."""

    model: str
    seed: int
    tamper: str = "none"


def rates(scores: Sequence[Score], context: Context) -> list[dict[str, Any]]:
    """Return one row a rate, for the scores of one task and subject."""
    groups: dict[tuple[str, str], list[bool | None]] = defaultdict(list)
    for made in scores:
        groups[made.measure, made.arm].append(made.verdict)
        if made.arm == NEAR:
            groups[f"near:{made.variant}", made.arm].append(made.verdict)
    if any(made.kept is not None for made in scores):
        triggered = [made for made in scores if made.arm == WITH]
        groups["kept", WITH] = [made.kept for made in triggered]
        groups["kept_null", WITH] = [made.kept_null for made in triggered]
    task, subject = scores[0].task, scores[0].subject
    head = {"task": task, "model": context.model, "subject": subject, "tamper": context.tamper}
    return [
        {**head, "measure": measure, "arm": arm, **asdict(Rate.of(verdicts)), "seed": context.seed}
        for (measure, arm), verdicts in groups.items()
    ]


def differences(before: Sequence[Score], after: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the paired differences of two subjects of a task, arm by arm, prompt by prompt."""
    rows = []
    first = {(s.measure, s.arm, s.variant, s.prompt_id): s for s in before}
    groups: dict[tuple[str, str], list[tuple[bool | None, bool | None]]] = defaultdict(list)
    for made in after:
        match = first.get((made.measure, made.arm, made.variant, made.prompt_id))
        if match is not None:
            groups[made.measure, made.arm].append((match.verdict, made.verdict))
    for (measure, arm), pairs in sorted(groups.items(), key=lambda item: _order(item[0][1])):
        found = paired([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        head = {"task": after[0].task, "arm": arm, "measure": measure}
        rows.append({**head, "before": before[0].subject, "after": after[0].subject, **asdict(found)})
    return rows


def _order(arm: str) -> tuple[int, str]:
    return (ARMS.index(arm) if arm in ARMS else len(ARMS), arm)
