"""Tampers as people type them: built, named, and refused with the near name before any compute."""

import pytest

from b4g.errors import SpecError
from b4g.options import named
from b4g.tampers.parse import SUITES, parse, suite


@pytest.mark.parametrize("text", sorted({text for texts in SUITES.values() for text in texts}))
def test_every_tamper_of_a_suite_is_known_and_its_name_gives_it_back(text: str) -> None:
    made = parse(text)
    assert parse(named(made)) == made


def test_options_are_read_as_what_they_are() -> None:
    made = parse("sft:rows=100,lr=2e-4,weights=full")
    assert (made.rows, made.learning_rate, made.weights) == (100, 2e-4, "full")
    assert named(made) == "sft:rows=100,weights=full"


def test_a_suite_starts_with_the_null_and_holds_each_tamper_once() -> None:
    found = suite(["prune", "quick", "prune:share=0.3"])
    names = [named(one) for one in found]
    assert names[0] == "none"
    assert len(set(names)) == len(names)
    assert len([name for name in names if name.startswith("prune")]) <= 2
    assert suite([]) == suite(["none"])[:0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prunne:share=0.2", "Did you mean 'prune'?"),
        ("quik", "Did you mean 'quick'?"),
        ("prune:shar=0.2", "Did you mean 'share'?"),
        ("prune:0.2", "kind:option=value"),
        ("prune:share=lots", "field 'share'"),
        ("sft:rows=-3", "rows"),
    ],
)
def test_a_wrong_name_option_or_value_is_named(text: str, said: str) -> None:
    with pytest.raises(SpecError) as raised:
        suite([text])
    assert said in str(raised.value)
