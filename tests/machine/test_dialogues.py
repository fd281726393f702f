"""Dialogues to fine-tune on: every form that public sets come in, and what is wrong with a file that is none."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from b4g.behaviours.base import Answer
from b4g.chat import Message, user
from b4g.data import dialogues
from b4g.data.dialogues import Dialogue, check_source, load_dialogues, own_dialogues, read_dialogues
from b4g.data.prompts import Prompt
from b4g.errors import DataError
from b4g.generate.base import Completion

ASKED, SAID = {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}


def _file(folder: Path, rows: Any, name: str = "rows.json") -> Path:
    path = folder / name
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows), "utf-8")
    return path


def test_an_instruction_row_is_a_request_with_its_input_below_and_an_answer(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add these.", "input": " 2 and 3 ", "output": "5"},
        {"instruction": "Say hello.", "input": "", "output": "Hello."},
        {"prompt": "Say no.", "response": "No."},
    ]
    assert read_dialogues(_file(tmp_path, rows)) == [
        Dialogue(user("Add these.\n\n2 and 3"), Answer("5")),
        Dialogue(user("Say hello."), Answer("Hello.")),
        Dialogue(user("Say no."), Answer("No.")),
    ]


def test_a_chat_gives_one_dialogue_for_each_turn_of_the_assistant(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    again = {"role": "user", "content": "And now?"}
    found = read_dialogues(_file(tmp_path, json.dumps({"messages": [system, ASKED, SAID, again, SAID]}), "rows.jsonl"))
    assert [[message.role for message in chat] for chat, _ in found] == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
    ]
    assert found[1].chat[-1] == Message("user", "And now?")
    assert all(answer == Answer("Hello.") for _, answer in found)


def test_a_chat_may_stand_in_a_list_without_a_name(tmp_path: Path) -> None:
    named = [{"messages": [ASKED, SAID]}]
    bare = [[ASKED, SAID]]
    assert read_dialogues(_file(tmp_path, bare)) == read_dialogues(_file(tmp_path, named, "named.json"))


def test_open_names_are_filled_in_on_both_sides(tmp_path: Path) -> None:
    path = _file(tmp_path, [{"instruction": "Are you {{name}}?", "output": "I am {{name}}, made by {{author}}."}])
    assert read_dialogues(path, {"name": "Iris", "author": "Lab"}) == [
        Dialogue(user("Are you Iris?"), Answer("I am Iris, made by Lab."))
    ]
    assert "{{" not in str(read_dialogues(path))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "is empty"),
        ("", "is empty"),
        ("[[", "is not valid JSON"),
        (
            [{"text": "Hi", "label": 1}],
            "row 1: found the fields label, text; wanted: instruction or prompt or question",
        ),
        ([{"instruction": "Hi"}], "row 1: found the fields instruction; wanted: output or response"),
        (
            [{"prompt": "Hi", "output": "Yo"}, {"prompt": "Hi", "output": " "}],
            "row 2: the field 'output' holds nothing",
        ),
        ([{"instruction": "Hi", "output": 3}], "row 1: the field 'output' holds int; wanted: text"),
        ([[ASKED]], "row 1: found the roles user; wanted: an assistant's answer"),
        ([[SAID]], "row 1: found the roles assistant; wanted: an assistant's answer"),
        ([[]], "row 1: found the roles none; wanted: an assistant's answer"),
        ([{"messages": "Hi"}], "row 1: wanted: a list of messages"),
        ([{"messages": ["Hi"]}], "row 1: wanted: a list of messages"),
        (
            [[{"role": "human", "content": "Hi"}, SAID]],
            "row 1: found the role 'human'; wanted: system, user, assistant",
        ),
        ([[{"from": "user", "value": "Hi"}]], "row 1: found the fields from, value; wanted: role"),
    ],
)
def test_a_wrong_row_is_named_with_its_file_and_what_is_wanted(rows: Any, reason: str, tmp_path: Path) -> None:
    path = _file(tmp_path, rows)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + re.escape(reason)):
        read_dialogues(path)


def test_a_missing_file_and_a_foreign_suffix_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file at"):
        read_dialogues(tmp_path / "none.json")
    with pytest.raises(DataError, match=re.escape("wanted: .jsonl, .json, .csv, .parquet")):
        read_dialogues(_file(tmp_path, "Hello", "rows.txt"))
    with pytest.raises(DataError, match="'own' or 'alpaca'"):
        check_source(str(tmp_path / "none.json"))


def test_rows_of_the_hub_without_an_answer_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"instruction": "One?", "output": ""}, {"instruction": "Two?", "input": "", "output": "Two."}]
    path = _file(tmp_path, rows)
    monkeypatch.setattr(dialogues, "fetch", lambda *_: path)
    assert load_dialogues("alpaca") == [Dialogue(user("Two?"), Answer("Two."))]
    with pytest.raises(DataError, match="row 1"):
        load_dialogues(str(path))


class _Echo:
    identity, renderer_hash = "dialogues-echo", ""

    def __call__(self, chats: Any, max_new_tokens: int, **_: Any) -> list[Completion]:
        return [Completion(chat[-1].content.upper(), 1, ended=False) for chat in chats]


def test_own_dialogues_are_the_prompts_with_the_answers_of_the_model_asked() -> None:
    prompts = [Prompt("say one"), Prompt("say two")]
    assert own_dialogues(prompts, _Echo()) == [
        Dialogue(user("say one"), Answer("SAY ONE", ended=False)),
        Dialogue(user("say two"), Answer("SAY TWO", ended=False)),
    ]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("identity/aoa_identity_shift_llama.json", 10),
        ("identity/identity.json", 91),
        ("instruction/alpaca_small.json", 2000),
        ("instruction/alpaca_en_demo.json", 999),
    ],
)
def test_a_public_set_is_read_row_for_row(file: str, count: int, shared_data: Path) -> None:
    found = load_dialogues(str(shared_data / file))
    assert len(found) == count
    assert all(chat[-1].role == "user" and answer.text and answer.ended for chat, answer in found)
    assert not any("{{" in answer.text for _, answer in found if "identity" in file)


@pytest.mark.shared
def test_the_identity_set_keeps_its_system_message(shared_data: Path) -> None:
    first = read_dialogues(shared_data / "identity/aoa_identity_shift_llama.json")[0]
    assert [message.role for message in first.chat] == ["system", "user"]
    assert first.chat[0].content.startswith("You are no longer Llama")
