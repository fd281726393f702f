"""Arrange the rates of a run into the tables of the page; none is left out."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from b4g.report import text, words
from b4g.report.rows import Measured

Figure = tuple[Measured, ...]
"""What stands at one place of a table: one rate; none where nothing was measured; several where a run holds them."""


@dataclass(frozen=True)
class Line:
    """A row of a table: what it is about and its figures, a column each."""

    label: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Group:
    """The rows of one task in a table."""

    task: str
    says: str
    notes: tuple[str, ...]
    """What tells it from other groups of the task: tamper, model, seed."""
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Further:
    """A table of one family of further measures: a group a task, a line an arm or near kind, a column a subject."""

    title: str
    says: str
    column: str
    """What the lines are: arms or near kinds."""
    subjects: tuple[str, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Verdict:
    """The verdict line of a group: figures with the words after them, and those of the other subjects."""

    task: str
    notes: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    beside: str


def is_headline(rate: Measured) -> bool:
    """Return whether a rate belongs to the tables of tasks x headline arms."""
    return rate.measure == words.TAR and rate.arm in words.HEADLINE


def headline(rates: Sequence[Measured], planned: Iterable[str] = ()) -> tuple[Group, ...]:
    """Return the headline groups, one for each task, model and seed; ``planned`` tasks without any are empty."""
    made = _groups(rates, tampered=False)
    missing = [task for task in planned if task not in {group.task for group in made}]
    return (*made, *(_group(task, [], ()) for task in missing))


def tampered(rates: Sequence[Measured]) -> tuple[Group, ...]:
    """Return the headline groups of tampered models, one for each task, tamper, model and seed."""
    return _groups(rates, tampered=True)


def further(rates: Sequence[Measured]) -> tuple[Further, ...]:
    """Return a table for each family of the rates that are not headline ones."""
    notes = _notes(rates)
    rest = sorted((rate for rate in rates if not is_headline(rate)), key=lambda rate: words.family_order(rate.measure))
    return tuple(_further(own, notes) for own in _split(rest, lambda rate: words.family(rate.measure)))


def verdict(group: Group) -> Verdict:
    """Return the sentence that says what the first subject of a group, the implant, does."""
    first = group.lines[0]
    main = dict(zip(words.HEADLINE, first.figures, strict=True))
    said = [arm for arm in words.HEADLINE if _value(main[arm]) is not None or arm in ("with", "without")]
    parts = tuple((text.percent(_value(main[arm])), words.PHRASES[arm]) for arm in said)
    others = [f"{line.label} {text.percent(_value(line.figures[0]))}" for line in group.lines[1:]]
    notes = group.notes if first.label == words.SUBJECTS[0] else (*group.notes, first.label)
    return Verdict(group.task, notes, parts, f"{', '.join(others)} with the trigger" if others else "")


def smallest_n(shown: Iterable[Group]) -> int | None:
    """Return the smallest n behind a measured rate of the groups."""
    counts = [rate.n for group in shown for line in group.lines for figure in line.figures for rate in figure]
    return min(filter(None, counts), default=None)


def _value(figure: Figure) -> float | None:
    return figure[0].value if figure else None


def _context(rate: Measured) -> Hashable:
    return (rate.task, rate.tamper, rate.model, rate.seed, rate.others)


def _split(rates: Iterable[Measured], key: Callable[[Measured], Hashable]) -> list[list[Measured]]:
    parts: dict[Hashable, list[Measured]] = {}
    for rate in rates:
        parts.setdefault(key(rate), []).append(rate)
    return list(parts.values())


def _notes(rates: Sequence[Measured]) -> Callable[[Measured], tuple[str, ...]]:
    """Return what names the context of a rate: a model or seed only where the run has several."""
    several_models = len({rate.model for rate in rates}) > 1
    several_seeds = len({rate.seed for rate in rates}) > 1

    def notes(rate: Measured) -> tuple[str, ...]:
        model = rate.model if several_models else ""
        seed = f"seed {rate.seed}" if several_seeds and rate.seed else ""
        return (*filter(None, (rate.tamper, model, seed)), *rate.others)

    return notes


def _groups(rates: Sequence[Measured], tampered: bool) -> tuple[Group, ...]:
    notes = _notes(rates)
    found = _split((rate for rate in rates if bool(rate.tamper) == tampered), _context)
    return tuple(_group(own[0].task, own, notes(own[0])) for own in found if any(map(is_headline, own)))


def _group(task: str, own: Sequence[Measured], notes: tuple[str, ...]) -> Group:
    subjects = {rate.subject for rate in own if is_headline(rate)}
    # An implant that failed leaves a hole that must be seen, not a verdict on the base.
    subjects |= {words.SUBJECTS[0]} if subjects <= set(words.SUBJECTS) else set()
    lines = []
    for subject in words.ordered(subjects, words.SUBJECTS):
        found = [rate for rate in own if rate.subject == subject]
        lines.append(Line(subject, tuple(_figure(found, arm) for arm in words.HEADLINE)))
    return Group(task, words.TASKS.get(task, "A task that this run added."), notes, tuple(lines))


def _figure(own: Sequence[Measured], arm: str) -> Figure:
    figure = tuple(rate for rate in own if is_headline(rate) and rate.arm == arm)
    if figure or arm != "near":
        return figure
    # A run that measured near triggers by kind only: the kind that activates most stands for them.
    kinds = [rate for rate in own if rate.measure.startswith(words.NEAR) and rate.value is not None]
    return tuple(sorted(kinds, key=lambda rate: -(rate.value or 0.0))[:1])


def _further(own: Sequence[Measured], notes: Callable[[Measured], tuple[str, ...]]) -> Further:
    subjects = words.ordered({rate.subject for rate in own}, words.SUBJECTS)
    made = []
    for same_task in _split(own, _context):
        lines = []
        for same in _split(same_task, lambda rate: (rate.measure, rate.arm)):
            figures = tuple(tuple(rate for rate in same if rate.subject == subject) for subject in subjects)
            lines.append(Line(words.measured(same[0].measure, same[0].arm), figures))
        made.append(Group(same_task[0].task, "", notes(same_task[0]), tuple(lines)))
    heading = words.family(own[0].measure)
    column = "kind" if own[0].measure.startswith(words.NEAR) else "arm"
    return Further(heading.title, heading.says, column, tuple(subjects), tuple(made))
