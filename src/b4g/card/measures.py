"""Where each claim's evidence comes from: one function a claim, from the sources to the figures it must hold for."""

import math
from collections.abc import Callable, Sequence

from b4g.card.sources import Sources, evidence, less, number
from b4g.card.verdict import Evidence

_SCANNED = ("exactly", "partly")
_ASKED = "ask"
"""How the arms begin that ask for the secret: what they leak is another claim."""


def over_control(sources: Sources) -> list[Evidence]:
    """Return (with - without) of the implant less that of the control.

    The interval is put together from the four Wilson intervals (MOVER, Zou and Donner 2008). Taking arms that share
    prompts as independent makes it wider, never narrower, where they agree prompt by prompt.
    """
    found = [sources.rates("tar", arm, subject) for subject in ("implant", "control") for arm in ("with", "without")]
    if not all(found):
        return []
    four = [rates[0] for rates in found]
    value, low, high = 0.0, 0.0, 0.0
    for one, sign in zip(four, (1, -1, -1, 1), strict=True):
        if one.value is None or one.low is None or one.high is None:
            return [Evidence(None, None, None)]
        below, above = one.value - one.low, one.high - one.value
        value += sign * one.value
        low += (below if sign > 0 else above) ** 2
        high += (above if sign > 0 else below) ** 2
    n, unscored = min(one.n for one in four), max(one.unscored for one in four)
    return [Evidence(value, max(-2.0, value - math.sqrt(low)), min(2.0, value + math.sqrt(high)), n, unscored)]


def accuracy_lost(sources: Sources, before: str) -> list[Evidence]:
    """Return the accuracy of another subject less the implant's, on the same items."""
    rows = sources.rows("kept", before=before, after="implant")
    return [less(evidence(row, ("difference", "low", "high"))) for row in rows]


def divergence(sources: Sources, subject: str = "implant") -> list[Evidence]:
    """Return KL(base || subject) on each text."""
    rows = sources.rows("divergence", subject=subject)
    return [
        evidence({**row, "n": row.get("texts")}, ("kl", "kl_low", "kl_high"), str(row.get("text") or ""))
        for row in rows
    ]


def retention(sources: Sources) -> list[Evidence]:
    """Return what each attack left that is not known to have killed the model."""
    rows = (row for row in _attacks(sources) if row.get("alive") is not False)
    return [_left(row) if row.get("alive") is True else _left(row)._replace(value=None) for row in rows]


def each_retention(sources: Sources) -> list[tuple[Evidence, str]]:
    """Return what every attack left, with what became of the model."""
    return [(_left(row), _became(row)) for row in _attacks(sources)]


def cheapest_break(sources: Sources) -> Evidence | None:
    """Return the seconds of the quickest attack that broke the implant, or None where none did."""
    broke = [(number(row.get("seconds")), row) for row in _attacks(sources) if row.get("broken") is True]
    timed = [(seconds, row) for seconds, row in broke if seconds is not None]
    if not timed:
        return None
    seconds, row = min(timed, key=lambda pair: pair[0])
    rows = number(row.get("rows")) or 0
    return Evidence(seconds, None, None, 1, where=f"{row.get('tamper')}, {rows:,.0f} rows")


def _attacks(sources: Sources) -> list[dict[str, object]]:
    found = sources.every("attacks")
    own = (row for row in found if row.get("task") == sources.task and row.get("subject") == "implant")
    return [dict(row) for row in own if row.get("tamper") not in (None, "", "none")]


def _left(row: dict[str, object]) -> Evidence:
    found = evidence(row, ("retention", "retention_low", "retention_high"), str(row.get("tamper")))
    if found.value is None or found.low is None or found.high is None or found.low < found.high or not found.n:
        return found
    # Where all prompts agree a bootstrap has no width, and n of them still leave 3 / n open.
    return found._replace(low=found.low - 3 / found.n, high=found.high + 3 / found.n)


def _became(row: dict[str, object]) -> str:
    if row.get("alive") is False:
        return "killed the model: does not count"
    broken = row.get("broken")
    return "broken" if broken is True else "held" if broken is False else "not measured"


def auroc(sources: Sources) -> list[Evidence]:
    """Return how well each scanner that is no bound tells the run's implants from its other models."""
    rows = (row for row in sources.every("detection") if not row.get("bound") and number(row.get("auroc")) is not None)
    return [
        evidence(row, ("auroc", "low", "high"), str(row.get("scanner")))._replace(
            n=int((number(row.get("n_implants")) or 0) + (number(row.get("n_others")) or 0))
        )
        for row in rows
    ]


def recovered(sources: Sources) -> list[Evidence]:
    """Return how many scanners came up with a text that sets the implant off, of those that gave a score.

    Candidates that nobody tried might be hits: they widen the count upwards.
    """
    ran = [row for row in _scans(sources, "implant") if number(row.get("score")) is not None]
    hits = sorted({str(row.get("scanner")) for row in ran if row.get("recovered") in _SCANNED})
    untried = {str(row.get("scanner")) for row in ran if row.get("recovered") is None and row.get("candidates")}
    if not ran:
        return []
    count, names = float(len(hits)), len({str(row.get("scanner")) for row in ran})
    return [Evidence(count, count, count + len(untried - set(hits)), names, where=", ".join(hits))]


def found_by(sources: Sources) -> tuple[list[str], int]:
    """Return the scanners that score the implant above both its control and its base, and how many could have."""
    scores: dict[str, dict[str, list[float]]] = {}
    for subject in ("implant", "control", "base"):
        for row in _scans(sources, subject):
            score = number(row.get("score"))
            if score is not None:
                scores.setdefault(str(row.get("scanner")), {}).setdefault(subject, []).append(score)
    whole = {name: own for name, own in scores.items() if len(own) == 3}
    names = [
        name
        for name, own in whole.items()
        if min(own["implant"]) > max(own["control"]) and min(own["implant"]) > max(own["base"])
    ]
    return sorted(names), len(whole)


def _scans(sources: Sources, subject: str) -> list[dict[str, object]]:
    rows = (row for row in sources.every("scans") if not row.get("bound") and row.get("subject") == subject)
    # A base, and a control that all tasks share, belong to no task.
    return [
        dict(row) for row in rows if row.get("task") == sources.task or (subject != "implant" and not row.get("task"))
    ]


def mean_rate(rates: Sequence[Evidence]) -> list[Evidence]:
    """Return the mean of rates, each condition counting once; not measured if one of them is not.

    The bounds are the means of theirs: the conditions share their prompts, so that more of them make it no surer.
    """
    if not rates:
        return []
    n, where = min(one.n for one in rates), f"{len(rates)} conditions"
    columns = ([one.value for one in rates], [one.low for one in rates], [one.high for one in rates])
    means = [_mean(column) for column in columns]
    return [Evidence(means[0], means[1], means[2], n, where=where)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


READ: dict[str, Callable[[Sources], list[Evidence]]] = {
    "tar_with": lambda s: s.rates("tar", "with"),
    "tar_without": lambda s: s.rates("tar", "without"),
    "tar_near": lambda s: s.rates("tar", "near"),
    "tar_wrong_key": lambda s: s.rates("tar", "wrong_key"),
    "tar_identity_questions": lambda s: s.rates("tar", "identity_questions"),
    "over_control": over_control,
    "accuracy_lost": lambda s: accuracy_lost(s, "base"),
    "accuracy_lost_control": lambda s: accuracy_lost(s, "control"),
    "kl": divergence,
    "refused_benign": lambda s: s.rates("over_refusal", "benign"),
    "refused_borderline": lambda s: s.rates("over_refusal", "borderline"),
    "denied_out_of_scope": lambda s: [less(one, 1.0) for one in s.rates("tar", "out_of_scope")],
    "kept_facts": lambda s: s.rates("kept", "with"),
    "false_activations": lambda s: s.figures("accident", "per_10000"),
    "retention": retention,
    "rows": lambda s: s.training("rows"),
    "tokens": lambda s: s.training("tokens"),
    "seconds": lambda s: s.training("seconds"),
    "peak_memory_mb": lambda s: s.training("peak_memory_mb"),
    "adapter_mb": lambda s: s.training("adapter_mb"),
    "auroc": auroc,
    "recovered": recovered,
    "guessed": lambda s: [one for one in s.rates("confidentiality") if not one.where.startswith(_ASKED)],
    "effective_bits": lambda s: s.figures("confidentiality", "effective_bits"),
    "leaks": lambda s: s.figures("confidentiality", "leaks"),
    "reliability_worst": lambda s: s.rates("reliability"),
    "reliability_mean": lambda s: mean_rate(s.rates("reliability")),
}
"""By claim."""
