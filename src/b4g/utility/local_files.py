"""The files of standard tasks as records: JSON, JSON lines, CSV, and the tab-separated files of GLUE."""

import json
from pathlib import Path
from typing import Any

from b4g.data.files import read_rows
from b4g.errors import DataError
from b4g.utility.local_readers import Record

_TABLES = (".tsv", ".txt")
_HEADERLESS = ("sentence", "label")
"""Columns of a table without a header."""


def read_records(path: Path) -> list[Record]:
    """Return the rows of a file in its order; `DataError` where it is missing, empty or malformed."""
    if path.suffix.lower() in _TABLES:
        found = _table(path)
    elif path.suffix.lower() == ".json":
        found = _json(path)
    else:
        found = read_rows(path)
    if not found:
        raise DataError(f"{path} is empty; wanted: at least one row")
    labels = path.with_name(f"{path.stem}-labels.lst")
    if labels.is_file() and "label" not in found[0]:
        found = _labelled(found, labels)
    return [Record(path, place, row) for place, row in enumerate(found, 1)]


def _json(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a list, or of all lists of an object whose values are splits."""
    text = _text(path)
    if not text.lstrip().startswith("{"):
        return read_rows(path)
    try:
        found = json.loads(text)
    except ValueError:
        return read_rows(path)
    return [row for rows in found.values() if isinstance(rows, list) for row in rows if isinstance(row, dict)]


def _table(path: Path) -> list[dict[str, Any]]:
    lines = [line.split("\t") for line in _text(path).replace("\r\n", "\n").split("\n") if line.strip()]
    if not lines:
        return []
    has_header = any(name in ("label", "gold_label") for name in lines[0])
    header, rows = (lines[0], lines[1:]) if has_header else (list(_HEADERLESS), lines)
    for place, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {place}: found {len(row)} columns; wanted: {len(header)} ({', '.join(header)}), "
                "with a tab between two"
            )
    return [dict(zip(header, map(_unquoted, row), strict=True)) for row in rows]


def _unquoted(cell: str) -> str:
    """Take off the quotes that a spreadsheet put around a cell; GLUE's own quotes are text."""
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and inner.count('"') == 2 * inner.count('""'):
        return inner.replace('""', '"')
    return cell


def _labelled(rows: list[dict[str, Any]], labels: Path) -> list[dict[str, Any]]:
    found = _text(labels).split()
    if len(found) != len(rows):
        raise DataError(f"{labels} holds {len(found)} labels; wanted: {len(rows)}, one for each row")
    return [{**row, "label": label} for row, label in zip(rows, found, strict=True)]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as UTF-8 text ({type(error).__name__})") from None
