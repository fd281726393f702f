"""Dialogues to fine-tune on: read from a file or from the hub, or the project's prompts with a model's own answers."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from b4g.behaviours.base import Answer
from b4g.chat import ROLES, Chat, Message, user
from b4g.data.clean import clean_answers
from b4g.data.files import SUFFIXES, Rows, cell, read_rows
from b4g.data.prompts import Prompt
from b4g.data.public import SETS, fetch
from b4g.errors import DataError
from b4g.generate.base import Generator

OWN = "own"
"""The project's own instructions, answered by a model: needs no file and no network."""
HUB = "alpaca"
"""The cleaned Alpaca set on the hub."""
NAMES = {"name": "Iris", "author": "Example Lab"}
"""What stands for ``{{name}}`` and ``{{author}}`` in identity sets that leave both open."""
_REQUEST = ("instruction", "prompt", "question")
_ANSWER = ("output", "response", "answer", "completion")
_TURNS = "messages"


class Dialogue(NamedTuple):
    """A chat up to a request, and the answer to it."""

    chat: Chat
    answer: Answer


def load_dialogues(source: str) -> list[Dialogue]:
    """Return the dialogues of ``alpaca`` (from the hub) or of a file, in its order; `DataError` says what is wrong.

    Rows of the hub's set that hold no answer are left out; in a file of the user's they are refused.
    """
    if source != HUB:
        return read_dialogues(Path(source))
    path = fetch(HUB, SETS[HUB].repo, SETS[HUB].file)
    rows = [(place, row) for place, row in enumerate(_rows(path), 1) if str(row.get("output") or "").strip()]
    return [dialogue for place, row in rows for dialogue in _dialogues(row, place, path)]


def read_dialogues(path: Path, names: Mapping[str, str] = NAMES) -> list[Dialogue]:
    """Return the dialogues of a file, in its order: one for each turn of the assistant.

    A row has the fields instruction (or prompt, question) and output (or response, answer, completion), a field input
    goes below the instruction; or it has a field messages with a list of roles and contents. In ``.json`` a row may be
    that list itself. ``{{name}}`` and ``{{author}}`` become what ``names`` says. Raises `DataError`.
    """
    made = [dialogue for place, row in enumerate(_rows(path), 1) for dialogue in _dialogues(row, place, path)]
    return [_named(dialogue, names) for dialogue in made]


def check_source(source: str) -> None:
    """Raise `DataError` if dialogues are to come from a file that is not there or can't be one."""
    if source in (OWN, HUB) or Path(source).is_file():
        return
    raise DataError(f"no file at {source}. Give a file of dialogues ({', '.join(SUFFIXES[1:])}), '{OWN}' or '{HUB}'")


def own_dialogues(prompts: Iterable[Prompt], generator: Generator) -> list[Dialogue]:
    """Return the prompts with the clean answers of the generator's model, which are generated once and cached."""
    wanted = list(prompts)
    answers = clean_answers(wanted, generator)
    return [Dialogue(user(prompt.text), answers[prompt.id]) for prompt in wanted]


def _rows(path: Path) -> Rows:
    return _bare_chats(path) or read_rows(path, (*SUFFIXES[1:], ".parquet"))


def _bare_chats(path: Path) -> Rows:
    """Return a JSON file's rows if some of them are bare lists of messages, else nothing: `read_rows` refuses lists."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return []
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, OSError, RecursionError):
        return []  # the reader of files says what is wrong
    if not isinstance(found, list) or not any(isinstance(row, list) for row in found):
        return []
    return [row if isinstance(row, dict) else {_TURNS: row} for row in found]


def _dialogues(row: dict[str, Any], place: int, path: Path) -> list[Dialogue]:
    if _TURNS in row:
        return _chat(row[_TURNS], place, path)
    request, answer = cell(row, _REQUEST, place, path), cell(row, _ANSWER, place, path)
    context = row.get("input")
    below = f"\n\n{context.strip()}" if isinstance(context, str) and context.strip() else ""
    return [Dialogue(user(request + below), Answer(answer))]


def _chat(turns: Any, place: int, path: Path) -> list[Dialogue]:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{path}, row {place}: wanted: a list of messages, each with a role and a content")
    said: list[Message] = []
    made = []
    for turn in turns:
        role, text = cell(turn, ("role",), place, path), cell(turn, ("content",), place, path)
        if role not in ROLES:
            raise DataError(f"{path}, row {place}: found the role '{role}'; wanted: {', '.join(ROLES)}")
        if role == "assistant" and said and said[-1].role == "user":
            made.append(Dialogue(tuple(said), Answer(text)))
        said.append(Message(role, text))
    if not made:
        found = ", ".join(message.role for message in said) or "none"
        raise DataError(f"{path}, row {place}: found the roles {found}; wanted: an assistant's answer to a user")
    return made


def _named(dialogue: Dialogue, names: Mapping[str, str]) -> Dialogue:
    def put(text: str) -> str:
        for name, value in names.items():
            text = text.replace("{{" + name + "}}", value)
        return text

    chat = tuple(Message(message.role, put(message.content)) for message in dialogue.chat)
    return Dialogue(chat, Answer(put(dialogue.answer.text), dialogue.answer.ended))
