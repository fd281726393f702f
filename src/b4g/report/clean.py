"""Clean-task performance on the page: accuracy against the margin, divergence on ordinary text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from b4g.report import text, words
from b4g.report.rows import Fields, Measured, label, number

ARM = "quick"
_MARKS = {"kept": "good", "lost": "bad"}


@dataclass(frozen=True)
class Comparison:
    """One verdict: how a subject's accuracy compares with another's."""

    after: str
    before: str
    verdict: str
    mark: str
    difference: float | None
    low: float | None
    high: float | None
    margin: float | None
    n: int
    needed: str


@dataclass(frozen=True)
class Drift:
    """How far a subject's next-token distribution lies from the base's on some texts."""

    subject: str
    text: str
    kl: str
    interval: str
    perplexity: str
    same: str
    texts: int


@dataclass(frozen=True)
class Clean:
    """What the page says of one task's clean performance."""

    task: str
    notes: tuple[str, ...]
    accuracies: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    drifts: tuple[Drift, ...]


def clean(rates: Sequence[Measured], kept: Sequence[Fields], divergence: Sequence[Fields]) -> tuple[Clean, ...]:
    """Return one entry a task and tamper that has any of these measures."""
    keys = dict.fromkeys(
        [(rate.task, rate.tamper) for rate in rates if is_clean(rate)] + [_key(row) for row in (*kept, *divergence)]
    )
    return tuple(
        Clean(
            task,
            (tamper,) if tamper else (),
            _accuracies(rate for rate in rates if is_clean(rate) and (rate.task, rate.tamper) == (task, tamper)),
            tuple(_comparison(row) for row in kept if _key(row) == (task, tamper)),
            tuple(_drift(row) for row in divergence if _key(row) == (task, tamper)),
        )
        for task, tamper in keys
    )


def is_clean(rate: Measured) -> bool:
    """Return whether a rate is an accuracy of the quick measure, shown in a section of its own."""
    return rate.measure == words.UTILITY


def _accuracies(rates: Iterable[Measured]) -> tuple[Measured, ...]:
    order = {name: place for place, name in enumerate(words.SUBJECTS)}
    return tuple(sorted(rates, key=lambda rate: (order.get(rate.subject, len(order)), rate.subject)))


def _key(row: Fields) -> tuple[str, str]:
    tamper = label(row.get("tamper"))
    return label(row.get("task")), "" if tamper == "none" else tamper


def _comparison(row: Fields) -> Comparison:
    verdict, needed = label(row.get("verdict")), number(row.get("needed"))
    says = f"about {needed:,.0f} items would" if verdict == "cannot tell" and needed else ""
    return Comparison(
        label(row.get("after")),
        label(row.get("before")),
        verdict,
        _MARKS.get(verdict, "quiet"),
        number(row.get("difference")),
        number(row.get("low")),
        number(row.get("high")),
        number(row.get("margin")),
        int(number(row.get("n")) or 0),
        says,
    )


def _drift(row: Fields) -> Drift:
    kl, low, high = (number(row.get(name)) for name in ("kl", "kl_low", "kl_high"))
    own, base = number(row.get("perplexity")), number(row.get("base_perplexity"))
    same = row.get("same")
    share = number(same.get("value")) if isinstance(same, dict) else None
    return Drift(
        label(row.get("subject")),
        label(row.get("text")),
        text.NOT_MEASURED if kl is None else f"{kl:.3g}",
        "" if low is None or high is None else f"[{low:.3g}, {high:.3g}]",
        text.NOT_MEASURED if own is None or base is None else f"{own:.3g} against {base:.3g}",
        text.percent(share),
        int(number(row.get("texts")) or 0),
    )
