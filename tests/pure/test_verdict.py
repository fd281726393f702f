"""Kept, lost or cannot tell: the interval decides, and n is honest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b4g.utility.verdict import kept


def test_equal_answers_on_many_items_are_kept() -> None:
    found = kept([True, False] * 1000, [True, False] * 1000)
    assert (found.verdict, found.difference, found.p) == ("kept", 0.0, 1.0)


def test_equal_answers_on_few_items_cannot_tell_and_say_how_many_would() -> None:
    found = kept([True] * 50, [True] * 50)
    assert found.verdict == "cannot tell"
    assert found.needed is not None
    told = kept([True] * found.needed, [True] * found.needed)
    assert found.needed > 50
    assert told.verdict == "kept"


def test_a_loss_far_beyond_the_margin_is_lost() -> None:
    found = kept([True] * 200, [True] * 150 + [False] * 50)
    assert (found.verdict, found.difference) == ("lost", -0.25)


def test_a_gain_is_kept_whatever_its_size() -> None:
    assert kept([False] * 50 + [True] * 150, [True] * 200).verdict == "kept"


def test_a_difference_of_just_the_margin_is_told_by_no_number_of_items() -> None:
    found = kept([True] * 100, [True] * 99 + [False], margin=0.01)
    assert (found.verdict, found.needed) == ("cannot tell", None)


def test_nothing_scored_is_not_measured() -> None:
    found = kept([None, None], [True, None])
    assert (found.verdict, found.n, found.unscored, found.needed) == ("not measured", 0, 2, None)


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        kept([True], [True], margin)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.floats(0.001, 0.5))
def test_the_verdict_follows_the_interval(pairs: list[tuple[bool, bool]], margin: float) -> None:
    found = kept([b for b, _ in pairs], [a for _, a in pairs], margin)
    assert found.low is not None
    assert found.high is not None
    assert (found.verdict == "kept") == (found.low > -margin)
    assert (found.verdict == "lost") == (found.high < -margin)
    assert found.needed is None or found.needed >= found.n
