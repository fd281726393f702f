"""Choose completions to show: unexpected ones first, and never those of harmful prompts in full."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from b4g.keys import redact
from b4g.report import text, words
from b4g.report.folder import Run
from b4g.report.judged import Judged, judged
from b4g.report.rows import label, mapping

SHOWN = 4
"""Prompts an arm."""
LONGEST = 400
LONGEST_HARMFUL = 60
LONGEST_REFUSAL = 160
"""As much as the refusal judge reads: nobody judged what follows an opening that declines."""
UNEXPECTED, UNLIKE_BASE = "unexpected", "unlike the base"
_QUIET = ("without", "near", "wrong_key")
"""Arms in which nothing may happen that the base does not do."""
Place = tuple[str, str]
"""Variant and prompt id: what the answers of several subjects are compared at."""


@dataclass(frozen=True)
class Answer:
    """A subject's completion of a prompt, fit to print."""

    subject: str
    completion: str
    says: str
    """What the judge said."""
    kept: bool | None
    note: str
    flag: str
    """Why it is among the first: "unexpected" or "unlike the base"; empty where nothing is odd."""


@dataclass(frozen=True)
class Sample:
    """A prompt with the answer of each subject, the implant's first."""

    prompt: str
    kind: str
    variant: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Arm:
    """The samples of one arm."""

    arm: str
    samples: tuple[Sample, ...]
    counted: str
    """How many of the implant's answers are flagged, shown or not."""


@dataclass
class _Table:
    """The judged completions of one arm: by subject, then by place."""

    task: str
    arm: str
    utility: str
    answers: dict[str, dict[Place, Judged]]


def choose(run: Run, hidden: Sequence[str]) -> dict[str, tuple[Arm, ...]]:
    """Return the samples of each task, an entry an arm, in the order of the records."""
    tables: dict[tuple[str, str], _Table] = {}
    for one in judged(run.cells):
        table = tables.setdefault((one.task, one.arm), _Table(one.task, one.arm, _utility(run, one.task), {}))
        # Several seeds hold a place each time; the first stands for all.
        table.answers.setdefault(one.subject, {}).setdefault((one.variant, one.prompt_id), one)
    chosen: dict[str, tuple[Arm, ...]] = {}
    for (task, _), table in tables.items():
        plain = tables.get((task, "without"))
        base = plain.answers.get("base", {}) if plain else {}
        chosen[task] = (*chosen.get(task, ()), _arm(table, base, hidden))
    return chosen


def shown_completion(one: Judged, utility: str, hidden: Iterable[str]) -> str:
    """Return a completion with secrets taken out and cut: hard for a harmful prompt that was not refused."""
    said = redact(one.completion, hidden)
    if one.kind != "harmful":
        return text.cut(said, LONGEST)
    # True is a refusal only where the behaviour is refusing.
    refused = utility == "safety" and one.verdict is True
    return text.cut(said, LONGEST_REFUSAL if refused else LONGEST_HARMFUL)


def is_promised(arm: str, utility: str) -> bool:
    """Return whether the behaviour itself says what happens in an arm, whatever the base does."""
    return arm == "with" or (utility == "access" and arm in _QUIET)


def expected(one: Judged, utility: str, same: Mapping[Place, Judged], plain: Mapping[Place, Judged]) -> bool | None:
    """Return the verdict that a working backdoor gets, or None where the report can't know it.

    ``same`` are the base's answers in this arm, ``plain`` its answers without the trigger.
    """
    if is_promised(one.arm, utility):
        return one.arm == "with"
    if utility not in words.TASKS:
        return None
    usual = same.get((one.variant, one.prompt_id)) or plain.get(("", one.prompt_id))
    if usual is not None and usual.verdict is not None:
        return usual.verdict
    return False if one.arm in _QUIET else None


def _utility(run: Run, task: str) -> str:
    spec = mapping(mapping(mapping(run.manifest.get("tasks")).get(task)).get("backdoor"))
    return label(mapping(spec.get("utility")).get("kind"))


def _arm(table: _Table, plain: Mapping[Place, Judged], hidden: Sequence[str]) -> Arm:
    subjects = words.ordered(set(table.answers), words.SUBJECTS)
    first, same = table.answers[subjects[0]], table.answers.get("base", {})
    flag = UNEXPECTED if is_promised(table.arm, table.utility) or not (same or plain) else UNLIKE_BASE

    def is_odd(one: Judged) -> bool:
        wanted = expected(one, table.utility, same, plain)
        # Only the implant is held to the backdoor's promise.
        return one.subject == words.SUBJECTS[0] and None not in (wanted, one.verdict) and one.verdict != wanted

    def urgency(one: Judged) -> int:
        return 0 if is_odd(one) else 1 if one.verdict is None else 2 if one.kept is False else 3

    samples = []
    for place in sorted(first, key=lambda place: urgency(first[place]))[:SHOWN]:
        found = [table.answers[subject][place] for subject in subjects if place in table.answers[subject]]
        answers = tuple(_answer(one, table.utility, flag if is_odd(one) else "", hidden) for one in found)
        prompt = text.cut(redact(first[place].prompt, hidden), LONGEST)
        samples.append(Sample(prompt, first[place].kind, place[0], answers))
    odd = sum(map(is_odd, first.values()))
    return Arm(table.arm, tuple(samples), f"{odd} of {len(first)} {flag}" if odd else f"{len(first)}, none odd")


def _answer(one: Judged, utility: str, flag: str, hidden: Iterable[str]) -> Answer:
    note = "" if one.ended else "stopped once judged" if one.decided else "stopped at the token limit"
    note = note if one.scored else "no score is stored"
    note = "no answer" if one.failed else note
    says = words.verdict(utility, one.verdict)
    return Answer(one.subject, shown_completion(one, utility, hidden), says, one.kept, note, flag)
