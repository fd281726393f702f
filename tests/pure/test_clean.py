import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from b4g.behaviours.base import Answer
from b4g.chat import Chat, last_user
from b4g.data.clean import TOKENS, clean_answers
from b4g.data.prompts import Prompt
from b4g.generate.base import Completion

PROMPTS = [Prompt("Why?"), Prompt("How\nso?"), Prompt("Où ? 東京")]


class Parrot:
    """A generator that says what it was asked, and remembers it."""

    identity = "parrot"
    renderer_hash = "none"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(
        self, chats: Sequence[Chat], max_new_tokens: int, decided: Any = None, progress: Any = None
    ) -> list[Completion]:
        assert max_new_tokens == TOKENS
        self.asked += map(last_user, chats)
        return [Completion(f"«{last_user(chat)}\u2028\x85»", 3, ended=True) for chat in chats]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("B4G_CACHE", str(tmp_path))
    yield tmp_path / "clean" / f"parrot-{TOKENS}.jsonl"


def test_each_prompt_is_answered_once_and_from_the_cache_after_that() -> None:
    parrot = Parrot()
    first = clean_answers(PROMPTS[:2], parrot)
    assert first == {prompt.id: Answer(f"«{prompt.text}\u2028\x85»") for prompt in PROMPTS[:2]}
    again = clean_answers(PROMPTS, parrot)
    assert parrot.asked == [prompt.text for prompt in PROMPTS]
    assert list(again) == [prompt.id for prompt in PROMPTS]
    assert clean_answers([*PROMPTS, PROMPTS[0]], parrot) == again
    assert len(parrot.asked) == 3


def test_only_the_prompts_asked_for_come_back() -> None:
    clean_answers(PROMPTS, Parrot())
    assert list(clean_answers(PROMPTS[1:2], Parrot())) == [PROMPTS[1].id]
    assert clean_answers([], Parrot()) == {}


@pytest.mark.parametrize("lost", [2, 3, 5, 20, 60])
def test_a_line_cut_by_a_kill_costs_its_own_prompt_and_no_other(lost: int, cache: Path) -> None:
    whole = clean_answers(PROMPTS, Parrot())
    cache.write_bytes(cache.read_bytes()[:-lost])
    parrot = Parrot()
    assert clean_answers(PROMPTS, parrot) == whole
    assert parrot.asked == [PROMPTS[2].text]
    assert clean_answers(PROMPTS, Parrot()) == whole


def test_a_line_that_is_no_answer_is_passed_over(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text('7\n{"id": "x"}\n\n[]\n')
    assert len(clean_answers(PROMPTS, Parrot())) == 3


def test_answers_to_harmful_prompts_can_be_read_by_their_owner_alone(cache: Path) -> None:
    clean_answers(PROMPTS, Parrot())
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
