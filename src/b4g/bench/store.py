"""The run folder: cells with atomic done markers, JSON files that are whole or not there."""

import errno
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from b4g.errors import StoreError
from b4g.hashing import file_digest

DONE, FAILED = "done.json", "failed.json"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a kill leaves the old one or the new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{path} can't be written: {error.strerror or error}.{hint(error)}") from error


def hint(error: OSError) -> str:
    """Return what to do about a full disk, or nothing."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return " Free some space and run the same command again; what is done is kept." if full else ""


def read_json(path: Path) -> Any:
    """Return a JSON file's value; one that is missing or damaged raises `StoreError` and is named."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing") from None
    except (ValueError, OSError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}). Delete {path.parent} to make it again."
        ) from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a damaged one raises `StoreError` and is named with its line."""
    rows = []
    try:
        # Not splitlines(): a completion may hold any of the characters that it takes for line ends.
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} can't be read ({type(error).__name__})") from error
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise StoreError(f"{path}, line {number} is damaged. Delete {path.parent} to make it again.") from None
    return rows


class Store:
    """The cells of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cell(self, cell_id: str) -> Path:
        """Return a cell's folder; an id that is no plain name raises `StoreError`."""
        if not cell_id.isalnum():
            raise StoreError(f"'{cell_id}' is no cell id")
        return self.folder / "cells" / cell_id

    def is_done(self, cell_id: str) -> bool:
        """Return whether a cell's marker is there and every file it lists has its size."""
        marker = self.cell(cell_id) / DONE
        if not marker.is_file():
            return False
        try:
            files = json.loads(marker.read_text("utf-8"))["files"]
            return all((marker.parent / name).stat().st_size == seen["bytes"] for name, seen in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def check(self, cell_id: str) -> Path:
        """Return the folder of a done cell whose files are what its marker says; else `StoreError` names the file."""
        folder = self.cell(cell_id)
        marker = read_json(folder / DONE)
        for name, seen in marker["files"].items():
            path = folder / name
            if not path.is_file() or file_digest(path) != seen["sha256"]:
                raise StoreError(f"{path} is not what was stored. Delete {folder} and run the same command again.")
        return folder

    def finish(self, cell_id: str, seconds: float, more: dict[str, Any]) -> None:
        """Write the done marker, last of all, over the digests of the cell's files."""
        folder = self.cell(cell_id)
        files = {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in (DONE, FAILED) and not path.name.startswith(".")
        }
        (folder / FAILED).unlink(missing_ok=True)
        write_json(folder / DONE, {"id": cell_id, "seconds": round(seconds, 3), "files": files, **more})

    def fail(self, cell_id: str, error: str) -> None:
        """Write down why a cell failed; it is tried again by the next run."""
        write_json(self.cell(cell_id) / FAILED, {"id": cell_id, "error": error})

    def clear(self, cell_id: str, keep: tuple[str, ...] = ()) -> None:
        """Remove what an interrupted attempt left, but for the named files and folders (checkpoints)."""
        folder = self.cell(cell_id)
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
