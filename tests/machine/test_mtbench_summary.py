"""Judgements in, means, differences and wins out."""

import pytest
from scipy.stats import t as student

from b4g.errors import DataError
from b4g.stats import wilson
from b4g.utility.mtbench.judgements import Judgement
from b4g.utility.mtbench.summary import Mean, comparisons, differences, outcome, scores


def single(subject: str, question: int, turn: int, score: int | None, category: str = "math") -> Judgement:
    why = None if score is not None else "garbage"
    who = (f"{subject} {question} {turn}", "single", subject, None, str(question), category, turn, None)
    return Judgement(*who, score, None, why, "reply", 1, "judge", "http://localhost", False)


def both(subject: str, *pairs: tuple[int | None, int | None]) -> list[Judgement]:
    return [single(subject, n, turn, pair[turn - 1]) for n, pair in enumerate(pairs) for turn in (1, 2)]


def ordered(question: int, turn: int, ab: str | None, ba: str | None) -> list[Judgement]:
    made = []
    for order, verdict in (("AB", ab), ("BA", ba)):
        why = None if verdict else "garbage"
        who = (f"{question} {turn} {order}", "pairwise", "base", "implant", str(question), "math", turn, order)
        made.append(Judgement(*who, None, verdict, why, "reply", 1, "judge", "http://localhost", False))
    return made


def row(rows: list[dict[str, object]], turn: str, category: str = "all") -> dict[str, object]:
    return next(one for one in rows if (one["turn"], one["category"]) == (turn, category))


def test_a_mean_and_its_interval_are_those_of_student() -> None:
    found = Mean.of([5.0, 7.0, None, 9.0], 1, 10)
    half = student.ppf(0.975, 2) * 2 / 3**0.5
    assert found == Mean(7.0, pytest.approx(7 - half), 10, 3, 1)


def test_one_question_alone_has_no_interval_and_none_has_no_mean() -> None:
    assert Mean.of([4.0], 1, 10) == Mean(4.0, None, None, 1, 0)
    assert Mean.of([None, None], 1, 10) == Mean(None, None, None, 0, 2)


def test_scores_are_given_by_turn_and_category_and_half_a_conversation_is_no_whole() -> None:
    found = scores([*both("base", (8, 6), (4, None), (2, 2)), single("base", 9, 1, 10, "writing")])
    assert row(found, "1")["value"] == 6
    assert row(found, "1", "math")["n"] == 3
    assert (row(found, "2")["value"], row(found, "2")["unscored"]) == (4, 2)
    assert (row(found, "both")["value"], row(found, "both")["n"], row(found, "both")["unscored"]) == (4.5, 2, 2)
    assert (row(found, "both", "writing")["value"], row(found, "both", "writing")["unscored"]) == (None, 1)


def test_a_difference_is_paired_question_by_question() -> None:
    found = differences(
        [*both("base", (8, 8), (4, 4), (5, 5)), *both("implant", (7, 7), (3, 3), (9, None))], "base", "implant"
    )
    assert (row(found, "both")["value"], row(found, "both")["n"], row(found, "both")["unscored"]) == (-1, 2, 1)
    assert (row(found, "both")["low"], row(found, "both")["high"]) == (-1, -1)
    assert row(found, "1")["value"] == pytest.approx(2 / 3)


def test_equal_answers_give_a_difference_of_zero() -> None:
    found = differences([*both("base", (8, 6), (4, 5)), *both("control", (8, 6), (4, 5))], "base", "control")
    assert {one["value"] for one in found} == {0}


def test_a_difference_of_what_was_not_judged_or_not_the_same_is_refused() -> None:
    with pytest.raises(DataError, match=r"'implant'.*base"):
        differences(both("base", (8, 6)), "base", "implant")
    with pytest.raises(DataError, match="same questions"):
        differences([*both("base", (8, 6)), *both("implant", (8, 6), (1, 1))], "base", "implant")


def test_two_judges_are_not_mixed() -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="several judges"):
        scores([single("base", 1, 1, 5), replace(single("base", 2, 1, 5), judge="another")])


def test_a_turn_that_is_judged_twice_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        scores([single("base", 1, 1, 5), single("base", 1, 1, 6)])


@pytest.mark.parametrize(
    ("ab", "ba", "wanted"),
    [
        ("A", "B", "win"),
        ("B", "A", "loss"),
        ("tie", "tie", "tie"),
        ("A", "A", "inconsistent"),
        ("B", "B", "inconsistent"),
        ("A", "tie", "inconsistent"),
        (None, "B", None),
        (None, None, None),
    ],
)
def test_an_outcome_holds_in_both_orders(ab: str | None, ba: str | None, wanted: str | None) -> None:
    assert outcome(ordered(1, 1, ab, ba)) == wanted
    assert outcome(ordered(1, 1, ab, ba)[:1]) is None


def test_outcomes_are_counted_with_wilson_intervals_and_an_exact_sign_test() -> None:
    verdicts = [("A", "B")] * 5 + [("B", "A")] + [("tie", "tie"), ("A", "A"), (None, "A")]
    found = comparisons([one for n, pair in enumerate(verdicts) for one in ordered(n, 1, *pair)])
    one = row(found, "1")
    assert [one[name] for name in ("wins", "losses", "ties", "inconsistent", "unscored")] == [5, 1, 1, 1, 1]
    low, high = wilson(5, 8)
    assert one["win"] == {"value": 5 / 8, "low": low, "high": high, "n": 8, "unscored": 1}
    assert one["p"] == pytest.approx(2 * (1 + 6) / 64)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (("A", "B"), ("tie", "tie"), "wins"),
        (("A", "B"), ("B", "A"), "ties"),
        (("A", "A"), ("B", "A"), "losses"),
        (("A", "A"), ("tie", "tie"), "inconsistent"),
        (("A", "B"), (None, "A"), "unscored"),
    ],
)
def test_both_turns_together_count_once_a_question(
    first: tuple[str | None, str | None], second: tuple[str | None, str | None], wanted: str
) -> None:
    one = row(comparisons([*ordered(1, 1, *first), *ordered(1, 2, *second)]), "both")
    names = ("wins", "losses", "ties", "inconsistent", "unscored")
    assert {name: one[name] for name in names} == {**dict.fromkeys(names, 0), wanted: 1}
