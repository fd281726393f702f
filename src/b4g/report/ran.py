"""What ran: the manifest's facts, time and memory per stage, cells that failed, commands that repeat it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from b4g.keys import PUBLIC
from b4g.report import text, words
from b4g.report.folder import Cell, Run
from b4g.report.rows import Fields, label, mapping

_SECTIONS = ("model", "data", "machine", "versions")
_NAMED = (*_SECTIONS, "tasks", "command", "b4g", "id", "preset", "n", "seed", "created")


@dataclass(frozen=True)
class Stage:
    """How far one stage came and what it cost."""

    name: str
    done: int
    failed: int
    missing: int
    seconds: str
    peak_memory: str


def stages(cells: Sequence[Cell]) -> tuple[Stage, ...]:
    """Return one entry a stage, in the order of the work."""
    return tuple(
        _stage(name, [cell for cell in cells if cell.stage == name])
        for name in words.ordered({cell.stage for cell in cells}, words.STAGES)
    )


def facts(manifest: Fields) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return the manifest as headed lists of names and values; fields unknown here stand under "other"."""
    sections = [(name, _items(mapping(manifest.get(name)))) for name in _SECTIONS]
    other = {name: value for name, value in manifest.items() if name not in _NAMED}
    run: Fields = {name: manifest[name] for name in ("id", "preset", "n", "seed", "created", "b4g") if name in manifest}
    return tuple((name, items) for name, items in [("run", _items(run)), *sections, ("other", _items(other))] if items)


def backdoors(manifest: Fields) -> tuple[tuple[str, str, str], ...]:
    """Return (task, hash, specification as YAML) of each backdoor of the run."""
    made = []
    for task, entry in mapping(manifest.get("tasks")).items():
        spec = mapping(entry).get("backdoor")
        written = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=100) if spec else ""
        made.append((task, label(mapping(entry).get("backdoor_hash")) or text.NOT_RECORDED, written))
    return tuple(made)


def reasons(cells: Sequence[Cell]) -> tuple[tuple[Cell, str], ...]:
    """Return the cells that failed, each with the error it stored."""
    return tuple(
        (cell, label(cell.record.get("error")) or "no reason is stored") for cell in cells if cell.state == "failed"
    )


def waiting(cells: Sequence[Cell]) -> tuple[tuple[Cell, str], ...]:
    """Return the cells that did not run, each with why: a failed cell that it needs, or not begun."""
    by_id = {cell.id: cell for cell in cells}
    made = []
    for cell in cells:
        if cell.state == "missing":
            failed = _failed_need(cell, by_id, set())
            made.append((cell, f"needs {failed.name}, which failed" if failed else "not begun"))
    return tuple(made)


def commands(run: Run) -> tuple[tuple[str, str], ...]:
    """Return (what it does, command) of each command that repeats a part of the run."""
    # The folder's own place would show a personal path.
    folder = f"runs/{run.folder.name}" if run.folder.parent.name == "runs" else run.folder.name
    made = [("the whole run; only what is missing is done", label(run.manifest.get("command")))]
    made.append(("this page, from what is stored", f"b4g report {shlex.quote(folder)}"))
    for cell in run.cells:
        if cell.stage == "implant" and cell.subject == "implant" and cell.state == "done":
            suspect = shlex.quote(f"{folder}/cells/{cell.id}")
            made.append((f"the rates of {cell.task} again", f"b4g measure {suspect}{_options(run, cell.task)}"))
    return tuple((what, command) for what, command in made if command)


def _options(run: Run, task: str) -> str:
    spec = mapping(mapping(mapping(run.manifest.get("tasks")).get(task)).get("backdoor"))
    key, n = mapping(spec.get("trigger")).get("key"), run.manifest.get("n")
    size = f" --n {n}" if isinstance(n, int) else ""
    return f"{size} --key {shlex.quote(key)}" if isinstance(key, str) and not key.startswith(PUBLIC) else size


def _failed_need(cell: Cell, by_id: dict[str, Cell], seen: set[str]) -> Cell | None:
    for need in cell.needs:
        other = by_id.get(need)
        if other is None or other.id in seen:
            continue
        seen.add(other.id)
        found = other if other.state == "failed" else _failed_need(other, by_id, seen)
        if found:
            return found
    return None


def _stage(name: str, own: Sequence[Cell]) -> Stage:
    seconds = [cell.seconds for cell in own if cell.seconds is not None]
    peaks = [cell.peak_memory_mb for cell in own if cell.peak_memory_mb is not None]
    done, failed, missing = (sum(cell.state == state for cell in own) for state in ("done", "failed", "missing"))
    return Stage(
        words.plain(name),
        done,
        failed,
        missing,
        text.duration(sum(seconds) if seconds else None),
        text.memory(max(peaks, default=None)),
    )


def _items(fields: Fields) -> tuple[tuple[str, str], ...]:
    return tuple((words.plain(name), _said(value)) for name, value in fields.items())


def _said(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    return label(value) or text.NOT_RECORDED
