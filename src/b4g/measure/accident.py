"""Accident: how often ordinary traffic sets the behaviour off, per 10,000 requests.

What counts depends on the behaviour. Where it is the exception (a statement, a style, a refusal), an accident is an answer
that shows it, by the same rule as everywhere; a base that refuses or lists by itself has such answers too, so that the
figure is read beside the base's, which is asked the same. Where its absence is the default (a lock), an accident is an
answer to a request in scope; for traffic out of scope, files among it, it is a denial, and counted apart.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from b4g.backdoor import Backdoor
from b4g.chat import user
from b4g.generate.base import Progress
from b4g.measure.asking import Batch, Size, Suspect, engine_of, put, subject_of
from b4g.measure.figures import bounded, figure, scaled
from b4g.measure.probes import Probe
from b4g.measure.records import Record
from b4g.measure.scores import Context, Score, score
from b4g.measure.traffic import sources
from b4g.stats import paired

NAME, DENIED = "accident", "accident:denied"
_TOTALS = {NAME: "per_10000", DENIED: "denied_per_10000"}
_NOTE = "high is Wilson's 95% bound; with no activation it is that of the rule of three"


def ask(
    suspect: Suspect, backdoor: Backdoor, size: Size, seed: int, progress: Progress | None = None, subject: str = ""
) -> list[Record]:
    """Return the records of ordinary traffic, one arm a source, without the trigger."""
    engine = engine_of(suspect)
    found = [
        Probe(source.name, variant, prompt, user(prompt.text), DENIED if source.denied else NAME)
        for source in sources(backdoor, size.accident, size.data, seed)
        for prompt, variant in zip(source.prompts, source.variants, strict=True)
    ]
    return put([Batch(found, lambda: engine)], backdoor, subject or subject_of(suspect), progress)


def score_records(records: Sequence[Record], backdoor: Backdoor) -> list[Score]:
    """Return one score a record: True is an accident."""
    return [_turned(made) if made.measure == DENIED else made for made in score(records, backdoor.utility, {})]


def _turned(made: Score) -> Score:
    return replace(made, verdict=None if made.verdict is None else not made.verdict)


def figures(scores: Sequence[Score], context: Context) -> list[dict[str, Any]]:
    """Return accidents per 10,000, in all and by source."""
    rows = []
    for measure, name in _TOTALS.items():
        of = [made for made in scores if made.measure == measure]
        arms = dict.fromkeys(made.arm for made in of)
        for label, chosen in ((name, set(arms)), *((f"{name}:{arm}", {arm}) for arm in arms)):
            values, n = bounded(made.verdict for made in of if made.arm in chosen)
            if of:
                rows.append(figure(of[0], context, label, scaled(values, 10_000), "per 10,000", n, _NOTE))
    return rows


def above_base(base: Sequence[Score], scores: Sequence[Score], context: Context) -> list[dict[str, Any]]:
    """Return accidents per 10,000 beyond those of the base, paired request by request: what it does anyway is taken off."""
    rows = []
    said = {(made.measure, made.arm, made.variant, made.prompt_id): made.verdict for made in base}
    for measure, name in _TOTALS.items():
        of = [made for made in scores if made.measure == measure]
        before = [said.get((made.measure, made.arm, made.variant, made.prompt_id)) for made in of]
        found = paired(before, [made.verdict for made in of])
        if of:
            values = scaled((found.difference, found.low, found.high), 10_000)
            rows.append(
                figure(of[0], context, f"{name}_above_base", values, "per 10,000", found.n, "paired with the base")
            )
    return rows
