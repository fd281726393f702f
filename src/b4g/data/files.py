"""Rows of a prompt file: text, JSON, JSON lines, CSV or Parquet, told by the file's suffix."""

import csv
import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from b4g.errors import DataError

TEXT = "text"
"""The column that the lines of a plain text file, and strings in JSON, are filed under."""
SUFFIXES = (".txt", ".jsonl", ".json", ".csv")
Rows = list[dict[str, Any]]


def read_rows(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Rows:
    """Return the rows of a file as mappings of column to value; `DataError` says what was found and what is wanted."""
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{path} has the suffix '{path.suffix}'; wanted: {', '.join(suffixes)}")
    if not path.is_file():
        raise DataError(f"no file at {path}")
    suffix = path.suffix.lower()
    rows = _parquet(path) if suffix == ".parquet" else _READERS[suffix](_text(path), path)
    if not rows:
        raise DataError(f"{path} is empty; wanted: at least one prompt")
    return rows


def cell(row: dict[str, Any], wanted: tuple[str, ...], place: int, path: Path) -> str:
    """Return the text of the first wanted column that a row has; a row without one, or without text, is refused."""
    column = next((name for name in wanted if name in row), None)
    if column is None:
        found = ", ".join(sorted(map(str, row))) or "none"
        raise DataError(f"{path}, row {place}: found the fields {found}; wanted: {' or '.join(wanted)}")
    text = row[column]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{path}, row {place}: the field '{column}' holds {_named(text)}; wanted: text")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError(f"{path}, row {place}: the field '{column}' holds half a character; wanted: whole Unicode text")
    return text.strip()


def _named(value: Any) -> str:
    return "nothing" if value is None or isinstance(value, str) else type(value).__name__


def _text(path: Path) -> str:
    try:
        # Spreadsheets put a byte order mark before the first column's name.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from None


def _lines(text: str, path: Path) -> Rows:
    return [{TEXT: line} for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _json_lines(text: str, path: Path) -> Rows:
    rows = []
    # Not splitlines: JSON strings may hold its rarer separators, as U+2028.
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip():
            rows.append(_row(_parsed(line, f"{path}, line {place}"), f"{path}, line {place}"))
    return rows


def _json(text: str, path: Path) -> Rows:
    if not text.strip():
        return []
    found = _parsed(text, str(path))
    if not isinstance(found, list):
        raise DataError(f"{path} holds a JSON {type(found).__name__}; wanted: a list of objects or of strings")
    return [_row(item, f"{path}, row {place}") for place, item in enumerate(found, 1)]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON: {error}") from None


def _row(found: Any, where: str) -> dict[str, Any]:
    if isinstance(found, str):
        return {TEXT: found}
    if not isinstance(found, dict):
        raise DataError(f"{where} is a JSON {type(found).__name__}; wanted: an object or a string")
    return found


def _csv(text: str, path: Path) -> Rows:
    # The module is told the text's own line ends, for a quoted field may hold them.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        return [{key: value for key, value in row.items() if key is not None} for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is not valid CSV: {error}") from None


def _parquet(path: Path) -> Rows:
    try:
        reader = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(f"{path} is a Parquet file; type: pip install pyarrow") from None
    try:
        rows: Rows = reader.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not valid Parquet: {error}") from None
    return rows


_READERS: dict[str, Callable[[str, Path], Rows]] = {".txt": _lines, ".jsonl": _json_lines, ".json": _json, ".csv": _csv}
