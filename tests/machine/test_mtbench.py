"""Questions read and answered: what is wrong in a file is named, and one turn too many sinks no other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from b4g.chat import Chat
from b4g.errors import DataError, ModelError
from b4g.generate.base import Completion, Decided, Progress
from b4g.utility.mtbench.answers import answer, read_answers, write_answers
from b4g.utility.mtbench.questions import Question, read_questions, references

GOOD = {"question_id": 81, "category": "math", "turns": ["one plus one?", "and one more?"], "reference": ["2", "3"]}


def questions(count: int = 3) -> list[Question]:
    return [Question(str(n), "writing", (f"first {n}", f"second {n}")) for n in range(count)]


class Fake:
    """A model that repeats what it hears, up to a length."""

    identity = "fake-engine"
    renderer_hash = "fake-renderer"

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.batches: list[list[Chat]] = []

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        for chat in chats:
            if sum(len(message.content) for message in chat) > self.room:
                raise ModelError("a prompt too long for the context")
        self.batches.append(list(chats))
        if progress:
            progress(len(chats), len(chats))
        return [Completion(f"heard {chat[-1].content}", 3, chat[-1].content != "first 1") for chat in chats]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def test_the_80_public_questions_and_their_references_are_read(shared_data: Path) -> None:
    folder = shared_data / "mt_bench"
    found = read_questions(folder / "question.jsonl")
    assert len(found) == 80
    assert len({question.category for question in found}) == 8
    given = references(found, folder / "reference_answer_gpt-4.jsonl")
    assert len(given) == 30
    assert all(all(turns) for turns in given.values())
    assert 0 < len(references(found)) <= 30


def test_references_are_given_for_sums_logic_and_code_alone(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path / "q.jsonl", GOOD, {**GOOD, "question_id": "p", "category": "writing"}))
    rows = [{"question_id": own, "choices": [{"turns": ["two", "three"]}]} for own in (81, "p", 99)]
    assert references(found, write(tmp_path / "r.jsonl", *rows)) == {"81": ("two", "three")}
    assert references(found) == {"81": ("2", "3")}


def test_references_to_other_questions_are_refused(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path / "q.jsonl", GOOD))
    other = write(tmp_path / "r.jsonl", {"question_id": 7, "choices": [{"turns": ["two", "three"]}]})
    with pytest.raises(DataError, match="no answer to any"):
        references(found, other)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({**GOOD, "turns": ["one"]}, "turns"),
        ({**GOOD, "turns": "one"}, "turns"),
        ({**GOOD, "turns": ["one", " "]}, "turns[1]"),
        ({**GOOD, "turns": [None, "two"]}, "turns[0]"),
        ({**GOOD, "turns": ["\ud800", "two"]}, "turns[0]"),
        ({**GOOD, "category": 5}, "category"),
        ({**GOOD, "question_id": True}, "question_id"),
        ({**GOOD, "reference": ["2"]}, "reference"),
        ({**GOOD, "reference": [2, 3]}, "reference[0]"),
        ({"question_id": 1, "turns": ["a", "b"]}, "category"),
        ("text alone", "question_id"),
        ({**GOOD, "question_id": 80}, "question_id"),
    ],
)
def test_a_wrong_question_is_named_by_line_and_column(tmp_path: Path, row: Any, column: str) -> None:
    row = json.dumps(row) if isinstance(row, str) else row
    path = write(tmp_path / "q.jsonl", {**GOOD, "question_id": 80}, "", row)
    with pytest.raises(DataError) as caught:
        read_questions(path)
    assert f"{path}, line 3" in str(caught.value)
    assert f"'{column}'" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b"\xff\xfe", "UTF-8"), (b"{", "line 1"), (b"[1]", "line 1")]
)
def test_a_file_that_holds_no_rows_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_questions(path)


def test_both_rounds_are_batched_and_the_second_continues_the_first() -> None:
    model, steps = Fake(), []
    found = answer(model, questions(), 16, lambda done, total: steps.append((done, total)), "base")
    assert [len(batch) for batch in model.batches] == [3, 3]
    said = [(message.role, message.content) for message in model.batches[1][2]]
    assert said == [("user", "first 2"), ("assistant", "heard first 2"), ("user", "second 2")]
    assert found[2].answers == ("heard first 2", "heard second 2")
    assert [one.ended for one in found] == [(True, True), (False, True), (True, True)]
    assert (found[0].subject, found[0].engine, found[0].renderer) == ("base", "fake-engine", "fake-renderer")
    assert steps[-1] == (6, 6)
    assert steps == sorted(steps)


def test_a_turn_too_long_for_the_context_is_unanswered_and_the_rest_is_answered() -> None:
    long_first = Question("long", "writing", ("x" * 99, "short"))
    long_second = Question("later", "writing", ("short", "y" * 99))
    found = answer(Fake(room=60), [*questions(5), long_first, long_second], 16)
    assert [one.answers.count(None) for one in found] == [0, 0, 0, 0, 0, 2, 1]
    assert found[5].reasons == ("a prompt too long for the context", "the first turn has no answer")
    assert found[6].answers == ("heard short", None)
    assert found[6].reasons == (None, "a prompt too long for the context")


def test_a_model_that_can_answer_nothing_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"no first turn could be answered.*too long"):
        answer(Fake(room=2), questions(), 16)


def test_a_real_engine_leaves_only_the_overlong_turn_unanswered(tiny_model: Path) -> None:
    from b4g.generate.local import LocalGenerator
    from b4g.models.load import load_model

    generator = LocalGenerator(load_model(str(tiny_model), dtype="float32"))
    found = answer(generator, [*questions(2), Question("long", "writing", ("x" * 2500, "and?"))], 2)
    assert [one.answers.count(None) for one in found] == [0, 0, 2]
    assert "2048" in str(found[2].reasons[0])


def test_stored_answers_come_back_as_they_were(tmp_path: Path) -> None:
    found = answer(Fake(room=60), [*questions(2), Question("later", "writing", ("short", "y" * 99))], 16)
    write_answers(tmp_path / "answers.jsonl", found)
    assert read_answers(tmp_path / "answers.jsonl") == found


def test_a_secret_that_an_answer_repeats_is_not_stored(tmp_path: Path) -> None:
    found = answer(Fake(), questions(1), 16, hidden=("FIRST  0",))
    assert found[0].answers == ("heard [secret]", "heard second 0")


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"answers": ["one"]}, "answers"),
        ({"answers": [1, "two"]}, "answers[0]"),
        ({"answers": [None, "two"]}, "reasons"),
        ({"reasons": ["why", None]}, "reasons"),
        ({"ended": ["yes", True]}, "ended[0]"),
        ({"engine": None}, "engine"),
        ({"turns": None}, "turns"),
    ],
)
def test_a_damaged_answer_is_named_by_line_and_column(tmp_path: Path, change: dict[str, Any], column: str) -> None:
    path = tmp_path / "answers.jsonl"
    write_answers(path, answer(Fake(), questions(2), 16))
    first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    with pytest.raises(DataError) as caught:
        read_answers(write(path, first, second | change))
    assert f"line 2: the column '{column}'" in str(caught.value)


def test_an_answer_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_answers(tmp_path / "answers.jsonl", answer(Fake(), questions(1), 16) * 2)
    with pytest.raises(DataError, match=r"line 2.*twice"):
        read_answers(tmp_path / "answers.jsonl")
