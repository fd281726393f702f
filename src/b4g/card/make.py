"""Put a card together from a run's summary and the record of the training; nothing is generated or scored."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from b4g.backdoor import Backdoor
from b4g.card.figures import figures
from b4g.card.measures import READ
from b4g.card.sources import Sources
from b4g.card.verdict import Evidence, Verdict, decisive, judge, needed, worst
from b4g.claims import KNOWN, PROPERTIES, Claim, Property


@dataclass(frozen=True)
class Line:
    """A figure of the card, with the claim that it was held against, if the owner made one."""

    name: str
    title: str
    unit: str
    evidence: Evidence
    note: str = ""
    claim: str | None = None
    """The threshold, as the specification writes it."""
    limit: float | None = None
    """Its number."""
    verdict: Verdict | None = None
    """None where nothing is claimed."""
    needed: int | None = None
    """About how many prompts would tell, where this n can't."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with those of the evidence among them."""
        found = self.evidence._asdict()
        found.pop("rate")
        head = {name: value for name, value in asdict(self).items() if name != "evidence"}
        return {**head, **found}


@dataclass(frozen=True)
class Section:
    """One property: its lines, and the worst verdict of its claims."""

    property: Property
    verdict: Verdict | None
    """None where the owner claims nothing of it."""
    lines: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields; no claim is null."""
        return {"property": self.property, "verdict": self.verdict, "lines": [line.to_json() for line in self.lines]}


@dataclass(frozen=True)
class Card:
    """What is known of an implant, on one page."""

    task: str
    hash: str
    """Of the backdoor."""
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields; the card holds no secret and no completion."""
        return {"task": self.task, "hash": self.hash, "sections": [section.to_json() for section in self.sections]}


def make_card(task: str, backdoor: Backdoor, summary: Mapping[str, Any], made: Mapping[str, Any] | None = None) -> Card:
    """Return the card of a task's implant.

    ``summary`` is the content of a run's `summary.json`, ``made`` that of the implant's `implant.json`. What neither
    holds is not measured: a claim on it never holds.
    """
    sources = Sources(task, summary, made)
    claims = {claim.name: claim for claim in backdoor.claims}
    lines = [*_lines(sources, claims)]
    sections = []
    for name in PROPERTIES:
        own = tuple(line for line in lines if KNOWN[line.name].property == name)
        verdict = worst([line.verdict for line in own if line.verdict is not None])
        more = tuple(Line(**one._asdict()) for one in figures(name, sources))
        sections.append(Section(name, verdict, own + more))
    return Card(task, backdoor.hash, tuple(sections))


def _lines(sources: Sources, claims: Mapping[str, Claim]) -> Iterator[Line]:
    """Yield a line for each figure that was measured or that something is claimed of."""
    for name, known in KNOWN.items():
        found, claim = READ[name](sources), claims.get(name)
        if not found and claim is None:
            continue
        one = decisive(known.sign, found, claim)
        if claim is None:
            yield Line(name, known.title, known.unit, one)
            continue
        verdict = judge(claim, one)
        prompts = needed(claim, one) if verdict == "cannot tell at this n" else None
        yield Line(name, known.title, known.unit, one, "", claim.text, claim.limit, verdict, prompts)
