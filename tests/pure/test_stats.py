import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, mannwhitneyu

from b4g.stats import Area, Paired, Rate, auroc, detected, paired, wilson

_VERDICTS = st.lists(st.sampled_from([True, False, None]), max_size=60)
_PAIRS = st.lists(st.tuples(*[st.sampled_from([True, False, None])] * 2), max_size=60)


@given(
    st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_the_wilson_interval_is_that_of_scipy(counts: tuple[int, int], confidence: float) -> None:
    hits, n = counts
    known = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    low, high = wilson(hits, n, confidence)
    assert low == pytest.approx(known.low, abs=1e-12)
    assert high == pytest.approx(known.high, abs=1e-12)


def test_no_trial_has_no_interval() -> None:
    assert wilson(0, 0) == (None, None)


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_counts_that_cannot_be_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"not {hits}"):
        wilson(hits, n)


def test_a_rate_where_nothing_was_scored_is_none_and_never_zero() -> None:
    assert Rate.of([None, None]) == Rate(None, None, None, 0, 2)
    assert Rate.of([]) == Rate(None, None, None, 0, 0)


def test_an_unscored_outcome_leaves_the_denominator_and_is_counted_in_the_open() -> None:
    rate = Rate.of([True, None, False, True])
    assert (rate.value, rate.n, rate.unscored) == (2 / 3, 3, 1)


@pytest.mark.parametrize(("verdict", "value"), [(True, 1.0), (False, 0.0)])
def test_an_interval_at_the_end_of_the_scale_ends_there_exactly(verdict: bool, value: float) -> None:
    rate = Rate.of([verdict] * 40)
    assert rate.value == value
    assert value in (rate.low, rate.high)
    assert rate.low != rate.high


@given(_VERDICTS)
def test_a_rate_lies_in_its_interval_and_accounts_for_every_outcome(verdicts: list[bool | None]) -> None:
    rate = Rate.of(iter(verdicts))
    assert rate.n + rate.unscored == len(verdicts)
    if rate.n:
        assert rate.low is not None and rate.value is not None and rate.high is not None
        assert 0 <= rate.low <= rate.value <= rate.high <= 1
    else:
        assert rate.low is rate.value is rate.high is None


@given(_PAIRS)
def test_swapping_before_and_after_turns_the_sign_and_keeps_the_p_value(
    pairs: list[tuple[bool | None, bool | None]],
) -> None:
    before, after = [b for b, _ in pairs], [a for _, a in pairs]
    there, back = paired(before, after), paired(after, before)
    assert (there.n, there.unscored, there.p) == (back.n, back.unscored, back.p)
    if there.n:
        assert there.difference == pytest.approx(-back.difference)  # type: ignore[operator]
        assert there.low == pytest.approx(-back.high)  # type: ignore[operator]


@given(_PAIRS)
def test_a_difference_lies_in_its_interval(pairs: list[tuple[bool | None, bool | None]]) -> None:
    found = paired([b for b, _ in pairs], [a for _, a in pairs])
    assert found.n + found.unscored == len(pairs)
    if found.n:
        assert found.low is not None and found.difference is not None and found.high is not None
        assert -1 <= found.low <= found.difference <= found.high <= 1


@given(_VERDICTS)
def test_the_null_shows_no_difference_and_p_is_one(verdicts: list[bool | None]) -> None:
    found = paired(verdicts, verdicts)
    if found.n:
        assert (found.difference, found.p) == (0.0, 1.0)
    else:
        assert found == Paired(None, None, None, None, 0, len(verdicts))


def test_the_p_value_is_that_of_the_exact_mcnemar_test() -> None:
    before = [True] * 2 + [False] * 9 + [True] * 20
    after = [False] * 2 + [True] * 9 + [True] * 20
    # both tails of Binomial(11, 1/2) at 2 or fewer
    exact = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    found = paired(before, after)
    assert found.p == pytest.approx(exact)
    assert found.difference == pytest.approx(7 / 31)


def test_a_pair_with_one_side_unscored_counts_for_neither() -> None:
    assert paired([True, None, False], [None, True, False]) == paired([None, None, False], [None, None, False])
    assert paired([True, None, False], [None, True, False]).unscored == 2


def test_samples_of_unlike_length_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="not 1 and 2"):
        paired([True], [True, False])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_an_auroc_is_the_mann_whitney_statistic_and_lies_in_its_interval(up: list[int], down: list[int]) -> None:
    found = auroc(up, down)
    assert found.value == pytest.approx(mannwhitneyu(up, down).statistic / (len(up) * len(down)))
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= found.value + 1e-9 and found.value - 1e-9 <= found.high <= 1
    turned = auroc(down, up)
    assert (turned.low, turned.high) == (pytest.approx(1 - found.high), pytest.approx(1 - found.low))


def test_a_perfect_auroc_of_few_models_keeps_a_wide_interval() -> None:
    few, many = auroc([1.0] * 4, [0.0] * 5), auroc([1.0] * 40, [0.0] * 50)
    assert few.value == many.value == 1 and few.high == many.high == 1
    assert few.low is not None and many.low is not None
    assert few.low < 0.65
    assert many.low > 0.9


def test_the_auroc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    source, shift, covered = random.Random(0), 1.4657, 0  # a shift by which two normals have the area 0.85
    for _ in range(400):
        found = auroc([source.gauss(shift, 1) for _ in range(10)], [source.gauss(0, 1) for _ in range(10)])
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.85 <= found.high
    assert 0.92 <= covered / 400 <= 0.99


def test_an_auroc_of_one_side_alone_is_none() -> None:
    assert auroc([1.0], []) == auroc([], [1.0]) == Area(None, None, None)


def test_detection_allows_no_false_alarm_until_there_are_twenty_negatives() -> None:
    assert detected([3.0, 1.0], [2.0] * 19).value == 0.5
    assert detected([3.0, 1.0], [0.0] * 18 + [2.0]).value == 0.5
    assert detected([3.0, 1.0], [0.0] * 19 + [2.0]).value == 1.0
    assert detected([0.0], [0.0] * 5).value == 0.0
    assert detected([1.0], []) == Rate(None, None, None, 0, 1)
