"""How numbers and hostile characters are spelt."""

import math

import pytest

from b4g.report import svg, text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "not measured"),
        (0.0, "0%"),
        (0.0004, "<0.1%"),
        (0.004, "0.4%"),
        (0.0096, "1%"),
        (0.5, "50%"),
        (0.97, "97%"),
        (0.9904, "99%"),
        (0.995, "99.5%"),
        (0.9996, ">99.9%"),
        (1, "100%"),
    ],
)
def test_only_none_is_zero_and_only_all_is_a_hundred_percent(value, said):
    assert text.percent(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.94, "+94"), (-0.125, "−12"), (0, "0"), (None, "not measured"), (-1, "−100")]
)
def test_a_difference_is_said_in_signed_points(value, said):
    assert text.points(value) == said


@pytest.mark.parametrize(
    ("p", "said"),
    [(1.0, "1"), (0.5, "0.5"), (0.0129, "0.013"), (0.00012, "0.00012"), (1e-30, "<0.0001"), (0, "<0.0001")],
)
def test_a_p_value_keeps_two_digits(p, said):
    assert text.probability(p) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (41.2, "41 s"),
        (59.7, "1 min 0 s"),
        (192, "3 min 12 s"),
        (7500, "2 h 5 min"),
        (math.nan, "not recorded"),
    ],
)
def test_a_time_is_said_as_a_reader_says_it(seconds, said):
    assert text.duration(seconds) == said


def test_what_scripts_and_emoji_need_is_left_alone():
    kept = "Grüße, 東京, שלום, 👩‍💻, می‌خواهم\n\ttab"
    assert text.visible(kept) == kept


def test_every_other_unseen_character_is_spelt():
    assert text.visible("a\u202eb\u200bc\x7fd\U000e0041e\u2028f\ud800") == (
        "a[U+202E]b[U+200B]c[U+007F]d[U+E0041]e[U+2028]f[U+D800]"
    )


@pytest.mark.parametrize(
    ("value", "said"), [(48211, "48,211"), (1480.4, "1,480"), (0.0706, "0.0706"), (None, "not recorded")]
)
def test_a_count_has_separators_and_a_fraction_three_digits(value, said):
    assert text.number(value) == said


@pytest.mark.parametrize("largest", [1e-6, 0.03, 0.9, 1, 2.7, 4, 10, 99, 150, 1e5])
def test_axis_ticks_are_few_round_and_start_at_zero(largest):
    marks = svg.ticks(largest)
    assert marks[0] == 0
    assert 3 <= len(marks) <= 6
    assert marks[-1] <= largest * (1 + 1e-9)


@pytest.mark.parametrize(
    "losses", [(), (math.nan,), (0.0,), (1.5,), (0.0, 0.0), tuple(1 / (i + 1) for i in range(9000))]
)
def test_any_run_of_losses_can_be_drawn(losses):
    drawn = str(svg.loss_chart([svg.Curve("implant", losses)]))
    assert "nan" not in drawn
    assert len(drawn) < 20_000


def test_a_bar_outside_its_range_stays_inside_its_track():
    assert 'width="100.00%"' in svg.bar(1.7, -0.2, 2.0)
    assert 'x1="0.00%"' in svg.bar(1.7, -0.2, 2.0)
