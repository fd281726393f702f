"""Prompts in other words or in another language, from a file of the user's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from b4g.data.files import TEXT, cell, read_rows
from b4g.data.prompts import Prompt
from b4g.errors import DataError

PARAPHRASE, TRANSLATION = "paraphrase", "translation"
KINDS = (PARAPHRASE, TRANSLATION)


class Rephrased(NamedTuple):
    """A prompt in other words."""

    kind: str
    """paraphrase or translation."""
    language: str
    prompt: Prompt


def read_rephrased(path: Path, prompts: Iterable[Prompt]) -> list[Rephrased]:
    """Return the rows of a file that are of these prompts, in its order; `DataError` says what is wrong with a row.

    A row names a prompt by its ``id`` or by its own ``text`` and gives the new wording as ``paraphrase`` or
    ``translation``. A row with nothing but a ``text`` is a new wording of its own; with a ``language`` it is a
    translation. Rows of other prompts are left out: a file may serve all tasks.
    """
    known = {prompt.id for prompt in prompts}
    found = []
    for place, row in enumerate(read_rows(path, (".jsonl", ".json")), 1):
        original = _original(row, place, path)
        language = str(row.get("language") or "")
        for kind in KINDS:
            if row.get(kind) and original in known:
                found.append(Rephrased(kind, language, Prompt(cell(row, (kind,), place, path))))
        if original is None:
            kind = TRANSLATION if language else PARAPHRASE
            found.append(Rephrased(kind, language, Prompt(cell(row, (TEXT,), place, path))))
    return found


def _original(row: dict[str, Any], place: int, path: Path) -> str | None:
    """Return the id of the prompt that a row is a wording of, or None where the row stands for itself."""
    reworded = any(row.get(kind) for kind in KINDS)
    if not reworded and ("id" in row or TEXT not in row):
        raise DataError(f"{path}, row {place}: no new wording; wanted: a field {' or '.join(KINDS)}")
    if "id" in row:
        return cell(row, ("id",), place, path)
    return Prompt(cell(row, (TEXT,), place, path)).id if reworded else None
