"""Judgements summarised: mean scores with intervals, paired differences, and wins that hold in both orders."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

from scipy.stats import binomtest
from scipy.stats import t as student

from b4g.errors import DataError
from b4g.stats import Rate
from b4g.utility.mtbench.judgements import Judgement
from b4g.utility.mtbench.verdicts import HIGHEST, LOWEST

Turn = Literal["1", "2", "both"]
Outcome = Literal["win", "loss", "tie", "inconsistent"]
TURNS: tuple[Turn, ...] = ("1", "2", "both")
ALL = "all"
"""The row of all categories."""
_Key = tuple[str, str]
"""A question's id and category."""


@dataclass(frozen=True)
class Mean:
    """A mean over questions with its 95% interval (Student's t); all None where nothing was scored."""

    value: float | None
    low: float | None
    """None as well for one question alone, which shows no spread."""
    high: float | None
    n: int
    """Scored questions."""
    unscored: int

    @classmethod
    def of(cls, values: Sequence[float | None], lowest: float, highest: float) -> "Mean":
        """Return the mean of the values that are not None; its interval is cut at what a value can be."""
        known = [value for value in values if value is not None]
        n = len(known)
        if n == 0:
            return cls(None, None, None, 0, len(values))
        mean = math.fsum(known) / n
        if n == 1:
            return cls(mean, None, None, 1, len(values) - 1)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1))
        half = float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n)
        return cls(mean, max(lowest, mean - half), min(highest, mean + half), n, len(values) - n)


def scores(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return a row a subject, turn and category: the mean score and its interval.

    The unit is the question. Its score of both turns is their mean, and is unscored where one of them is.
    """
    rows = []
    for subject, own in _by_subject(judgements).items():
        for turn, category in _cells(own):
            values = [_score(turns, turn) for (_, kind), turns in own.items() if category in (ALL, kind)]
            head = {"subject": subject, "turn": turn, "category": category}
            rows.append({**head, **asdict(Mean.of(values, LOWEST, HIGHEST))})
    return rows


def differences(judgements: Sequence[Judgement], before: str, after: str) -> list[dict[str, Any]]:
    """Return a row a turn and category: the mean of after - before, question by question."""
    found = _by_subject(judgements)
    for name in (before, after):
        if name not in found:
            raise DataError(f"no score of '{name}' to compare; there are those of: {', '.join(found) or 'none'}")
    old, new = found[before], found[after]
    if old.keys() != new.keys():
        raise DataError(f"'{before}' and '{after}' were not asked the same questions")
    rows = []
    for turn, category in _cells(old):
        values = []
        for key in (key for key in old if category in (ALL, key[1])):
            was, now = _score(old[key], turn), _score(new[key], turn)
            values.append(None if was is None or now is None else now - was)
        most = float(HIGHEST - LOWEST)
        head = {"before": before, "after": after, "turn": turn, "category": category}
        rows.append({**head, **asdict(Mean.of(values, -most, most))})
    return rows


def comparisons(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return a row a pair of subjects, turn and category.

    It counts wins, ties, losses and inconsistent pairs of orders of the subject. ``win`` and ``loss`` are shares of all
    scored questions, and ``p`` is that of the two-sided exact sign test on wins against losses (None without either).
    """
    asked = [one for one in judgements if one.mode == "pairwise"]
    _check_one_judge(asked)
    pairs: dict[tuple[str, str], dict[_Key, dict[int, list[Judgement]]]] = {}
    for one in asked:
        if one.other is not None:
            turns = pairs.setdefault((one.subject, one.other), {}).setdefault((one.question_id, one.category), {})
            turns.setdefault(one.turn, []).append(one)
    rows = []
    for (subject, other), own in pairs.items():
        for turn, category in _cells(own):
            outcomes = [_of_turn(turns, turn) for (_, kind), turns in own.items() if category in (ALL, kind)]
            head = {"subject": subject, "other": other, "turn": turn, "category": category}
            rows.append({**head, **_counted(outcomes)})
    return rows


def outcome(orders: Sequence[Judgement]) -> Outcome | None:
    """Return what both orders together say of the subject; None unless each order has its verdict."""
    said = {one.order: one.verdict for one in orders}
    if len(orders) != 2 or said.keys() != {"AB", "BA"} or None in said.values():
        return None
    found = {_seen(one) for one in orders}
    return found.pop() if len(found) == 1 else "inconsistent"


def _seen(one: Judgement) -> Outcome:
    """Return one order's verdict from the subject's side."""
    if one.verdict == "tie":
        return "tie"
    return "win" if (one.verdict == "A") == (one.order == "AB") else "loss"


def _of_turn(turns: Mapping[int, Sequence[Judgement]], turn: Turn) -> Outcome | None:
    """Return a question's outcome. Of both turns: who won more of them; without any, inconsistent if one turn is."""
    if turn != "both":
        return outcome(turns.get(int(turn), ()))
    found = [outcome(turns.get(place, ())) for place in (1, 2)]
    if None in found:
        return None
    ahead = found.count("win") - found.count("loss")
    if ahead:
        return "win" if ahead > 0 else "loss"
    return "inconsistent" if "inconsistent" in found else "tie"


def _counted(outcomes: Sequence[Outcome | None]) -> dict[str, Any]:
    counts = Counter(outcomes)
    wins, losses = counts["win"], counts["loss"]
    return {
        "wins": wins,
        "ties": counts["tie"],
        "losses": losses,
        "inconsistent": counts["inconsistent"],
        "unscored": counts[None],
        "win": asdict(Rate.of(None if one is None else one == "win" for one in outcomes)),
        "loss": asdict(Rate.of(None if one is None else one == "loss" for one in outcomes)),
        "p": float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
    }


def _by_subject(judgements: Sequence[Judgement]) -> dict[str, dict[_Key, dict[int, int | None]]]:
    singles = [one for one in judgements if one.mode == "single"]
    _check_one_judge(singles)
    found: dict[str, dict[_Key, dict[int, int | None]]] = defaultdict(lambda: defaultdict(dict))
    for one in singles:
        turns = found[one.subject][one.question_id, one.category]
        if one.turn in turns:
            raise DataError(f"turn {one.turn} of question {one.question_id} of '{one.subject}' is judged twice")
        turns[one.turn] = one.score
    return found


def _check_one_judge(judgements: Sequence[Judgement]) -> None:
    judges = sorted({f"{one.judge} at {one.url}" for one in judgements})
    if len(judges) > 1:
        raise DataError(f"scores of several judges are no one measure: {', '.join(judges)}; summarise one at a time")


def _score(turns: Mapping[int, int | None], turn: Turn) -> float | None:
    if turn != "both":
        return turns.get(int(turn))
    first, second = turns.get(1), turns.get(2)
    return None if first is None or second is None else (first + second) / 2


def _cells(keys: Mapping[_Key, Any]) -> list[tuple[Turn, str]]:
    return list(product(TURNS, [ALL, *dict.fromkeys(category for _, category in keys)]))
