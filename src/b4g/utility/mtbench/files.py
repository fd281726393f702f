"""JSON-lines files of MT-Bench: rows with their line numbers, and fields that are checked before they are used."""

from pathlib import Path
from typing import Any

from b4g.data.files import read_rows
from b4g.errors import DataError

Line = tuple[str, dict[str, Any]]
"""Where a row stands, as ``FILE, line N``, and the row."""


def read_lines(path: Path) -> list[Line]:
    """Return the rows of a JSON-lines file; `DataError` names the file and line of what is wrong."""
    rows = read_rows(path, (".jsonl",))
    # Empty lines are no rows, but they count.
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    return [(f"{path}, line {number}", row) for number, row in zip(numbers, rows, strict=True)]


def check_suffix(path: Path) -> None:
    """Raise `DataError` for a file that could be written but not read back."""
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"{path} has the suffix '{path.suffix}'; wanted: .jsonl")


def column(row: dict[str, Any], name: str, where: str) -> Any:
    """Return the value of a column that must be there."""
    if name not in row:
        found = ", ".join(sorted(row)) or "none"
        raise DataError(f"{where}: the column '{name}' is missing; found: {found}")
    return row[name]


def text(row: dict[str, Any], name: str, where: str) -> str:
    """Return a column's text; nothing but spaces, or half a character, is refused."""
    found = column(row, name, where)
    if not isinstance(found, str) or not found.strip():
        raise wrong(where, name, found, "text")
    return whole(found, name, where)


def whole(found: str, name: str, where: str) -> str:
    """Return the text, unless it holds half a character, which no file can store."""
    if any("\ud800" <= char <= "\udfff" for char in found):
        raise DataError(f"{where}: the column '{name}' holds half a character; wanted: whole Unicode text")
    return found


def pair(row: dict[str, Any], name: str, where: str) -> list[Any]:
    """Return a column's list of two values, one a turn."""
    found = column(row, name, where)
    if not isinstance(found, list) or len(found) != 2:
        raise wrong(where, name, found, "a list of two, one a turn")
    return found


def wrong(where: str, name: str, found: Any, wanted: str) -> DataError:
    """Return the error of a column that holds something else than what is wanted."""
    shown = f"a list of {len(found)}" if isinstance(found, list) else _NAMES.get(type(found), "something else")
    return DataError(f"{where}: the column '{name}' holds {shown}; wanted: {wanted}")


_NAMES: dict[type, str] = {
    str: "other text",
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    dict: "an object",
}
