"""The questions, and the reference answers that judging sums, logic and code needs; both are the user's files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.errors import DataError
from b4g.utility.mtbench.files import column, pair, read_lines, text, whole, wrong

WITH_REFERENCE = ("math", "reasoning", "coding")
"""Categories whose answers are right or wrong: the judge is shown a reference there, and nowhere else."""

References = dict[str, tuple[str | None, str | None]]
"""A reference answer for each turn, by question."""


@dataclass(frozen=True)
class Question:
    """One conversation of two turns, the second about the first."""

    id: str
    category: str
    turns: tuple[str, str]
    reference: tuple[str | None, str | None] = (None, None)
    """What the question file itself says is right."""


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a JSON-lines file (``question_id, category, turns[2]``, optional ``reference``).

    `DataError` names the line and column of what is missing or wrong.
    """
    seen: dict[str, str] = {}
    questions = []
    for where, row in read_lines(path):
        own = _id(row, where)
        if own in seen:
            raise DataError(f"{where}: the column 'question_id' holds {own}, as does {seen[own]}")
        seen[own] = where
        first, second = _turns(row, "turns", where)
        reference = _reference(row, where) if row.get("reference") else (None, None)
        questions.append(Question(own, text(row, "category", where), (first, second), reference))
    return questions


def references(questions: Sequence[Question], path: Path | None = None) -> References:
    """Return the reference answers of the categories that need them.

    They come from the file of reference answers (``question_id, choices[0].turns[2]``) if one is given, else from the
    questions. A file that is about none of the questions is a `DataError`.
    """
    wanted = {question.id: question for question in questions if question.category in WITH_REFERENCE}
    if path is None:
        return {own: found.reference for own, found in wanted.items() if any(found.reference)}
    given = dict(_answers(row, where) for where, row in read_lines(path))
    if not given.keys() & {question.id for question in questions}:
        raise DataError(f"{path} holds no answer to any of the questions; are both files of one benchmark?")
    return {own: given[own] for own in wanted if own in given}


def _answers(row: dict[str, Any], where: str) -> tuple[str, tuple[str | None, str | None]]:
    choices = column(row, "choices", where)
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise wrong(where, "choices", choices, "a list of objects")
    return _id(row, where), _turns(choices[0], "turns", f"{where}, column 'choices[0]'")


def _turns(row: dict[str, Any], name: str, where: str) -> tuple[str, str]:
    found = {f"{name}[{place}]": value for place, value in enumerate(pair(row, name, where))}
    first, second = (text(found, key, where) for key in found)
    return first, second


def _reference(row: dict[str, Any], where: str) -> tuple[str | None, str | None]:
    found = pair(row, "reference", where)
    for place, value in enumerate(found):
        if not (value is None or isinstance(value, str)):
            raise wrong(where, f"reference[{place}]", value, "text or null")
    first, second = (whole(value, "reference", where) if value and value.strip() else None for value in found)
    return first, second


def _id(row: dict[str, Any], where: str) -> str:
    found = column(row, "question_id", where)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return text(row, "question_id", where)
