"""Names become lm-eval tasks: local ones from the user's files, others from lm-eval and the hub; items are chosen here."""

import difflib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.errors import DataError, SpecError, unknown
from b4g.hashing import digest
from b4g.utility import local_tasks

_LOGGERS = ("lm_eval", "datasets")


def item_id(doc: Any) -> str:
    """Return twelve hex digits of an item's content; the same for base, control and implant."""
    return digest(json.dumps(doc, sort_keys=True, default=str), 12)


@dataclass(frozen=True)
class Unit:
    """What one name stands for: a task, or a group that is reported as one, such as MMLU's subjects."""

    name: str
    tasks: Mapping[str, Any]
    """lm-eval's tasks by their own names."""
    chosen: Mapping[str, list[int]]
    """Places of the items that are measured, by task; a task without any is not run."""
    available: int
    """Items that the data holds."""


def load_units(names: Sequence[str], data: Mapping[str, Path], limit: int | None) -> list[Unit]:
    """Return the units of some names with the items to measure.

    Raises `SpecError` for a name that nobody knows or that comes twice, and `DataError` for data that can't be had.
    """
    if not names:
        raise SpecError(f"no task is named. With a file of their own: {', '.join(local_tasks.TASKS)}.")
    for name in data:
        if name not in local_tasks.TASKS:
            raise SpecError(unknown("task with a local reader", name, local_tasks.TASKS))
        if name not in names:
            raise SpecError(f"a file is given for '{name}', which is not among the tasks: {', '.join(names)}.")
    remote = [name for name in names if name not in data]
    manager = _manager(remote) if remote else None
    found: dict[str, list[Any]] = {}
    for name in names:
        own = {name: local_tasks.build(name, data[name])} if name in data else _from_hub(manager, name)
        twice = sorted(found.keys() & own.keys())
        if twice:
            raise SpecError(f"the task '{twice[0]}' is named twice")
        found |= own
    leaves = [task.task_name for tasks in found.values() for task in tasks]
    twice = sorted({leaf for leaf in leaves if leaves.count(leaf) > 1})
    if twice:
        raise SpecError(f"the task '{twice[0]}' is part of two of the tasks named; name it once")
    return [_unit(name, tasks, limit) for name, tasks in found.items()]


def _manager(names: Sequence[str]) -> Any:
    """Return lm-eval's list of tasks, which takes seconds to make; unknown names are refused."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    known = set(manager.all_tasks)
    for name in names:
        if name in known:
            continue
        near = difflib.get_close_matches(name.lower(), sorted(known | local_tasks.TASKS.keys()), n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
        raise SpecError(
            f"unknown task '{name}'.{hint} With a file of their own: {', '.join(local_tasks.TASKS)}. "
            f"lm-eval knows {len(known):,} names; type: lm_eval ls tasks"
        )
    return manager


def _from_hub(manager: Any, name: str) -> dict[str, list[Any]]:
    """Return tasks by the name they are reported under: a group that is averaged is one, a tag is its tasks."""
    try:
        loaded = manager.load([name])
    except (
        Exception
    ) as error:  # the hub's client, its HTTP library and the data set's own code raise errors of their own
        local = f" Give a file of it: --data {name}=FILE." if name in local_tasks.TASKS else ""
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise DataError(
            f"the data of '{name}' can't be had from the hub ({type(error).__name__}: {said}).{local} "
            "Where HF_HUB_OFFLINE is set, only what was downloaded before is there."
        ) from None
    if name in loaded["groups"]:
        return _grouped(loaded["groups"][name])
    return {leaf: [task] for leaf, task in loaded["tasks"].items()}


def _grouped(built: Any) -> dict[str, list[Any]]:
    if not hasattr(built, "get_all_tasks"):
        return {built.task_name: [built]}
    if built.has_aggregation:
        return {built.name: built.get_all_tasks()}
    return {name: tasks for child in built for name, tasks in _grouped(child).items()}


def _unit(name: str, tasks: Sequence[Any], limit: int | None) -> Unit:
    """Choose the items whose hashes come first, whatever the order in the file."""
    order = sorted(
        (item_id(doc), leaf, place) for leaf, task in enumerate(tasks) for place, doc in enumerate(task.eval_docs)
    )
    chosen: dict[str, list[int]] = {}
    for _, leaf, place in order[:limit]:
        chosen.setdefault(tasks[leaf].task_name, []).append(place)
    run = {task.task_name: task for task in tasks if task.task_name in chosen}
    return Unit(name, run, {leaf: sorted(places) for leaf, places in chosen.items()}, len(order))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's words off stdout, and its progress bars and warnings, which can quote items, off stderr too."""
    from lm_eval.api import task as module

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before, bars = [logger.level for logger in loggers], module.tqdm
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    # The bar has no switch that reaches here.
    module.tqdm = lambda items, **_: items
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        module.tqdm = bars
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
