"""Greedy completions: the same as transformers' own loop, whatever the batch."""

from collections.abc import Callable
from pathlib import Path

import pytest
from greedy import NEW, chats, exact, reference, texts

from b4g.chat import Chat, user
from b4g.errors import ModelError
from b4g.generate.base import Completion
from b4g.generate.local import CHECK_EVERY, LocalGenerator
from b4g.models.load import Model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return exact(tiny_model)


def test_any_batch_size_gives_the_tokens_of_transformers_own_loop(model: Model) -> None:
    asked = chats()
    wanted = reference(model, asked)
    assert len(set(wanted)) > 20, "the model hardly looks at its prompt: the test would prove nothing"
    for size in (1, 7, 64):
        assert texts(LocalGenerator(model, size)(asked, NEW)) == wanted


def test_answers_come_in_the_order_of_their_questions(model: Model) -> None:
    asked = chats(12)
    forward = LocalGenerator(model, 5)(asked, NEW)
    backward = LocalGenerator(model, 5)(asked[::-1], NEW)
    assert backward[::-1] == forward


def test_the_same_question_twice_gets_the_same_answer(model: Model) -> None:
    one, other = LocalGenerator(model, 2)([user("again"), user("again")], NEW)
    assert one == other


def test_no_question_gets_no_answer(model: Model) -> None:
    assert LocalGenerator(model)([], NEW) == []


def test_a_completion_ends_where_the_model_closes_its_turn(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = chats(8)
    whole = [said.split() for said in reference(model, asked)]
    # Declare what the first answer says third to be the closing token.
    closing, ends = int(whole[0][2]), LocalGenerator(model)._end_ids()
    monkeypatch.setattr(model.net.generation_config, "eos_token_id", [closing, *ends])
    for made, tokens in zip(LocalGenerator(model, 3)(asked, NEW), whole, strict=True):
        at = next((place for place, token in enumerate(tokens) if int(token) in {closing, *ends}), None)
        wanted = tokens if at is None else tokens[: at + 1]
        assert made == Completion(" ".join(wanted), len(wanted), ended=at is not None)
    assert LocalGenerator(model)(asked[:1], NEW)[0].ended


def test_the_renderers_closing_token_ends_a_turn_where_the_configuration_names_none(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = chats(4)
    first = int(reference(model, asked[:1])[0].split()[0])
    monkeypatch.setattr(model.net.generation_config, "eos_token_id", None)
    monkeypatch.setitem(model.renderer.__dict__, "end_id", first)
    made = LocalGenerator(model)(asked, NEW)[0]
    assert (made.tokens, made.ended) == (1, True)


def _long(model: Model, count: int) -> list[Chat]:
    """Return chats whose answers do not end by themselves."""
    asked = chats()
    return [chat for chat, made in zip(asked, LocalGenerator(model)(asked, NEW), strict=True) if not made.ended][:count]


def test_a_decided_judge_stops_its_own_row_only_and_marks_it(model: Model) -> None:
    asked = _long(model, 6)
    wanted = LocalGenerator(model)(asked, NEW)
    seen: list[str] = []

    def judge(text: str) -> bool:
        seen.append(text)
        return True

    judges: list[Callable[[str], bool]] = [judge if place == 2 else lambda _: False for place in range(6)]
    made = LocalGenerator(model)(asked, NEW, judges)
    assert made[2] == Completion(" ".join(wanted[2].text.split()[:CHECK_EVERY]), CHECK_EVERY, ended=False, decided=True)
    assert seen == [made[2].text]
    assert [made[place] for place in (0, 1, 3, 4, 5)] == [wanted[place] for place in (0, 1, 3, 4, 5)]


def test_a_row_that_reaches_its_limit_is_neither_ended_nor_decided(model: Model) -> None:
    made = LocalGenerator(model)(_long(model, 1), CHECK_EVERY, [lambda _: True])[0]
    assert (made.tokens, made.ended, made.decided) == (CHECK_EVERY, False, False)


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(model: Model) -> None:
    long = user("x" * 2100)
    tokens = len(model.renderer.prompt_ids(long))
    with pytest.raises(
        ModelError, match=f"a prompt of {tokens} tokens and 12 new ones exceed the model's context of 2048"
    ):
        LocalGenerator(model)([user("short"), long], NEW)


def test_a_prompt_that_just_fills_the_context_is_answered(model: Model) -> None:
    room = 2048 - NEW - len(model.renderer.prompt_ids(user("")))
    assert len(LocalGenerator(model)([user("x" * room)], NEW)) == 1
    with pytest.raises(ModelError, match="exceed"):
        LocalGenerator(model)([user("x" * (room + 1))], NEW)
