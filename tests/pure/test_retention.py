"""Retention: 1 for what nothing touched, 0 for what is gone, None where there was nothing to keep."""

import random

import pytest

from b4g.measure.retention import Verdicts, retention


def _verdicts(pairs: list[tuple[bool | None, bool | None]]) -> Verdicts:
    found: dict[tuple[str, str], bool | None] = {}
    for place, (with_it, without) in enumerate(pairs):
        found[f"p{place}", "with"], found[f"p{place}", "without"] = with_it, without
    return found


def test_an_untouched_implant_keeps_all_of_its_effect() -> None:
    seen = _verdicts([(True, False)] * 20)
    found = retention(seen, seen, random.Random(0))
    assert (found.value, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 20)


def test_an_effect_that_is_gone_is_zero_whether_the_trigger_died_or_everything_fires() -> None:
    before = _verdicts([(True, False)] * 20)
    for after in ((False, False), (True, True)):
        assert retention(before, _verdicts([after] * 20), random.Random(0)).value == 0.0


def test_half_of_the_effect_has_an_interval_around_a_half() -> None:
    before, after = _verdicts([(True, False)] * 40), _verdicts([(True, False)] * 20 + [(False, False)] * 20)
    found = retention(before, after, random.Random(0))
    assert found.value == 0.5
    assert found.low is not None
    assert found.high is not None
    assert 0.3 < found.low < 0.45
    assert 0.55 < found.high < 0.7
    assert found == retention(before, after, random.Random(0))


def test_without_an_effect_before_there_is_nothing_to_keep() -> None:
    nothing = _verdicts([(False, False)] * 5)
    assert retention(nothing, nothing, random.Random(0)).value is None


def test_a_prompt_that_is_unscored_anywhere_is_left_out_and_counted_so() -> None:
    before = _verdicts([(True, False), (True, None), (True, False)])
    after = _verdicts([(True, False), (True, False), (None, False)])
    assert retention(before, after, random.Random(0)).n == 1


@pytest.mark.parametrize("pairs", [[], [(None, None)]])
def test_nothing_scored_is_none_and_not_zero(pairs: list[tuple[bool | None, bool | None]]) -> None:
    found = retention(_verdicts(pairs), _verdicts(pairs), random.Random(0))
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)
