"""Read a run folder; whatever is missing or damaged is named in one line."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from b4g.errors import StoreError
from b4g.report.rows import Difference, Fields, Measured, difference, label, measured, number

_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AGAIN = "Run the same b4g bench again: it does only what is missing."
Row = TypeVar("Row", Measured, Difference)


@dataclass(frozen=True)
class Cell:
    """A planned cell and what became of it."""

    id: str
    stage: str
    name: str
    task: str
    subject: str
    needs: tuple[str, ...]
    folder: Path
    state: Literal["done", "failed", "missing"]
    record: Fields
    """The done marker or the failure."""

    @property
    def seconds(self) -> float | None:
        """Seconds that the cell took, where recorded."""
        return number(self.record.get("seconds"))

    @property
    def peak_memory_mb(self) -> float | None:
        """Peak memory of the cell, where recorded."""
        return number(self.record.get("peak_memory_mb"))


@dataclass(frozen=True)
class Run:
    """All that a report is made from."""

    folder: Path
    manifest: Fields
    rates: tuple[Measured, ...]
    differences: tuple[Difference, ...]
    cells: tuple[Cell, ...]
    kept: tuple[Fields, ...] = ()
    """Verdicts on clean-task performance, as stored."""
    divergence: tuple[Fields, ...] = ()
    """Divergences on ordinary text, as stored."""
    attacks: tuple[Fields, ...] = ()
    """Tampers with their cost and what they left, as stored."""
    scans: tuple[Fields, ...] = ()
    """What each scanner said of each subject, as stored."""
    detection: tuple[Fields, ...] = ()
    """How well each scanner tells implants from other models, as stored."""
    figures: tuple[Fields, ...] = ()
    """Figures that are no rates, as stored."""
    cards: tuple[Fields, ...] = ()
    """One card a task, from `card.json`."""


def read_run(folder: Path) -> Run:
    """Return what a run folder holds, or raise `StoreError` with the file that is missing or damaged."""
    if not folder.is_dir():
        raise StoreError(f"no run folder at {folder}. Give the folder that b4g bench printed.")
    where, plan, cards = (folder / name for name in ("summary.json", "plan.json", "card.json"))
    summary = _parsed(_text(where), str(where), finite=True)
    manifest = _parsed(_text(folder / "manifest.json"), str(folder / "manifest.json"), finite=True)
    planned = read_json(plan).get("cells", [])
    return Run(
        folder,
        manifest,
        tuple(_rows(where, summary, "rates", measured)),
        tuple(_rows(where, summary, "differences", difference)),
        tuple(_cell(folder, entry) for entry in _entries(plan, planned, "cells")),
        tuple(_entries(where, summary.get("kept", []), "kept")),
        tuple(_entries(where, summary.get("divergence", []), "divergence")),
        tuple(_entries(where, summary.get("attacks", []), "attacks")),
        tuple(_entries(where, summary.get("scans", []), "scans")),
        tuple(_entries(where, summary.get("detection", []), "detection")),
        tuple(_entries(where, summary.get("figures", []), "figures")),
        tuple(_entries(cards, read_json(cards).get("cards", []), "cards")),
    )


def read_json(path: Path) -> Fields:
    """Return the mapping of a JSON file, or an empty one where there is no file."""
    return _parsed(_text(path), str(path)) if path.exists() else {}


def read_lines(path: Path) -> Iterator[Fields]:
    """Yield the mappings of a JSON-lines file; nothing where there is no file."""
    if not path.exists():
        return
    # Not splitlines: a completion may hold U+2028, which JSON leaves as it is.
    for place, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield _parsed(line, f"{path}, line {place}")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise StoreError(f"{path.parent} holds no {path.name}. {_AGAIN}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({type(error).__name__}). {_AGAIN}") from None


def _parsed(text: str, where: str, finite: bool = False) -> Fields:
    try:
        found = json.loads(text, parse_constant=_refuse if finite else None)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{where} is not valid JSON: {reason}. {_AGAIN}") from None
    if not isinstance(found, dict):
        raise StoreError(f"{where} should hold a JSON object, not {type(found).__name__}. {_AGAIN}")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _entries(where: Path, entries: object, name: str) -> list[Fields]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StoreError(f"{where}: '{name}' should be a list of objects. {_AGAIN}")
    return entries


def _rows(where: Path, summary: Fields, name: str, make: Callable[[Fields], Row]) -> Iterator[Row]:
    for place, entry in enumerate(_entries(where, summary.get(name, []), name)):
        try:
            yield make(entry)
        except KeyError as error:
            raise StoreError(f"{where}: '{name}' {place} lacks the field {error}. {_AGAIN}") from None
        except ValueError as error:
            raise StoreError(f"{where}: '{name}' {place}: {error}. {_AGAIN}") from None


def _cell(folder: Path, entry: Fields) -> Cell:
    name = entry.get("id")
    # The id becomes a path, and a run folder may come from a stranger.
    if not isinstance(name, str) or not _CELL_ID.fullmatch(name):
        raise StoreError(f"{folder / 'plan.json'}: {name!r} is no cell id")
    home = folder / "cells" / name
    done, failed = read_json(home / "done.json"), read_json(home / "failed.json")
    needs = entry.get("needs")
    return Cell(
        name,
        label(entry.get("stage")),
        label(entry.get("name")),
        label(entry.get("task")),
        label(entry.get("subject")),
        tuple(map(str, needs)) if isinstance(needs, list) else (),
        home,
        "done" if done else "failed" if failed else "missing",
        done or failed,
    )
