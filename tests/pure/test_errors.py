import pytest

from b4g import errors
from b4g.errors import B4GError, unknown


@pytest.mark.parametrize("name", ["SpecError", "ModelError", "DataError", "KeyFileError", "StoreError", "SuspectError"])
def test_every_error_is_a_b4g_error_that_ends_with_exit_code_2(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, B4GError)
    assert kind.exit_code == 2
    assert name in (errors.__doc__ or "")


def test_an_unknown_name_is_answered_with_what_was_given_what_is_near_and_all_that_is_known() -> None:
    assert unknown("trigger", "phrse", ["system", "phrase"]) == (
        "unknown trigger 'phrse'. Did you mean 'phrase'? Known: phrase, system."
    )


def test_a_name_in_other_letter_case_is_still_near() -> None:
    assert "Did you mean 'lora'?" in unknown("activation", "LoRA", ["lora", "full"])


def test_a_name_that_is_near_to_nothing_gets_no_hint() -> None:
    assert unknown("trigger", "zzzz", ["phrase"]) == "unknown trigger 'zzzz'. Known: phrase."


def test_where_nothing_is_known_the_message_says_none() -> None:
    assert unknown("scanner", "x", []) == "unknown scanner 'x'. Known: none."
