"""Figures that stand on the card without a claim: what lies behind the ones that can be claimed."""

from collections.abc import Iterator
from typing import NamedTuple

from b4g.card.measures import cheapest_break, divergence, each_retention, found_by
from b4g.card.sources import Sources
from b4g.card.verdict import Evidence, exact
from b4g.claims import Property


class Figure(NamedTuple):
    """A figure and how the card names it."""

    name: str
    title: str
    unit: str
    evidence: Evidence
    note: str = ""


def figures(name: Property, sources: Sources) -> list[Figure]:
    """Return the further figures of a property that the run measured."""
    makers = {"effectiveness": _control, "harmlessness": _drift, "persistence": _attacks, "robustness": _secrecy}
    return list(makers[name](sources)) if name in makers else []


def _control(sources: Sources) -> Iterator[Figure]:
    for arm in ("with", "without"):
        for one in sources.rates("tar", arm, "control"):
            yield Figure(f"control_{arm}", f"TAR of the control, {arm}", "share", one)
    kinds = {str(row.get("measure")) for row in sources.rows("rates", subject="implant", arm="near")} - {"tar"}
    rates = [one._replace(where=kind) for kind in sorted(kinds) for one in sources.rates(kind, "near")]
    if rates:
        yield Figure("near_kind", "worst kind of near trigger", "share", max(rates, key=lambda one: one.value or 0.0))


def _drift(sources: Sources) -> Iterator[Figure]:
    for one in divergence(sources, "control"):
        yield Figure("kl_control", "divergence of the control", "nats a token", one)
    each = sources.parts("accident", "per_10000")
    if each:
        worst = max(each, key=lambda one: one.value or 0.0)
        yield Figure("false_activations_source", "the same, worst source", "per 10,000", worst)
    for name, title in _BESIDE.items():
        for one in sources.figures("accident", name):
            yield Figure(name, title, "per 10,000", one)


_BESIDE = {
    "per_10000_above_base": "false activations beyond the base's",
    "denied_per_10000": "ordinary requests denied",
}


def _attacks(sources: Sources) -> Iterator[Figure]:
    quickest, attacks = cheapest_break(sources), each_retention(sources)
    if quickest is not None:
        yield Figure("cheapest_break", "quickest attack that breaks it", "seconds", quickest)
    elif held := sum(became == "held" for _, became in attacks):
        tried = f"none of {len(attacks)}: it held against {held}"
        yield Figure("cheapest_break", "quickest attack that breaks it", "seconds", exact(None), tried)
    for one, became in attacks:
        yield Figure("retention_after", "retention after", "share", one, became)


def _secrecy(sources: Sources) -> Iterator[Figure]:
    names, ran = found_by(sources)
    if ran:
        above = Evidence(float(len(names)), None, None, ran, where=", ".join(names))
        yield Figure("found_by", "scanners that score it above control and base", "scanners", above)
    for one in sources.figures("confidentiality", "declared_bits"):
        yield Figure("declared_bits", "declared bits", "bits", one)
