"""A worker: a process that does cells one after the other; cell ids come in on stdin, events go out on stdout.

One JSON object a line: ``{"cell", "event": "progress" | "done" | "failed", ...}``. A line ``{"folder", "asked"}`` on stdin
names the run that the next cells belong to.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from b4g.bench.plan import Cell, Plan
from b4g.bench.store import Store
from b4g.errors import B4GError, StoreError
from b4g.keys import redact
from b4g.models import kept

_PAUSE_SECONDS = 0.5
Say = Callable[[dict[str, Any]], None]
"""Takes an event."""


class Plans:
    """The plans of the runs that a worker has met, each made once."""

    def __init__(self) -> None:
        from b4g.bench.setup import Planner

        self._known: dict[Path, Plan] = {}
        self._planner = Planner()

    def of(self, folder: Path, asked: Mapping[str, Any]) -> Plan:
        """Return the plan of the run in that folder."""
        if folder not in self._known:
            self._known[folder] = self._planner.plan(asked)
        return self._known[folder]


def main(folder: Path, asked: Mapping[str, Any], out: Any) -> None:
    """Serve cells of a run, and of those that stdin names, until stdin closes."""
    plans = Plans()
    plan = plans.of(folder, asked)
    for line in sys.stdin:
        if line.startswith("{"):
            said = json.loads(line)
            folder = Path(said["folder"])
            plan = plans.of(folder, said["asked"])
        else:
            serve(plan, Store(folder), plan.cell(line.strip()), out)


def serve(plan: Plan, store: Store, cell: Cell, out: Any) -> None:
    """Do one cell and print its events to ``out``; a failure is stored and said, and the worker lives on."""
    try:
        do(plan, store, cell, lambda event: print(json.dumps(event), file=out, flush=True))
    except BrokenPipeError:
        # The driver is gone. The cell is whole, or will be done again: it did not fail.
        raise SystemExit(1) from None


def do(plan: Plan, store: Store, cell: Cell, tell: Say) -> None:
    """Do one cell and tell its events; a failure is stored with its reason. `BrokenPipeError`: nobody listens."""
    from b4g.bench.stages import run_cell

    started, last = time.perf_counter(), 0.0

    def say(event: str, **more: Any) -> None:
        tell({"cell": cell.id, "event": event, **more})

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.perf_counter() - last > _PAUSE_SECONDS:
            last = time.perf_counter()
            say("progress", what=what, done=done, total=total)

    try:
        store.folder.joinpath("cells").mkdir(parents=True, exist_ok=True)
        # A worker whose driver was killed may still be at this cell for a moment.
        with FileLock(f"{store.cell(cell.id)}.lock"):
            if not store.is_done(cell.id):
                kept.keep(plan.base.place, plan.base.dtype)
                more = run_cell(plan, store, cell, report)
                store.finish(cell.id, time.perf_counter() - started, more)
        say("done", seconds=time.perf_counter() - started)
    except BrokenPipeError:
        raise
    except Exception as error:  # libraries and plug-ins raise anything, and the next cell may still be done
        _fail(plan, store, cell, error, say)


def _fail(plan: Plan, store: Store, cell: Cell, error: Exception, say: Any) -> None:
    hidden: list[str] = []
    for backdoor in plan.backdoors:
        with contextlib.suppress(B4GError):  # a key file that was there when the run started
            hidden += backdoor.trigger.hidden()
    expected = isinstance(error, B4GError)
    reason = redact(str(error) if expected else f"{type(error).__name__}: {error}", hidden)
    if not expected:
        sys.stderr.write(redact(traceback.format_exc(), hidden))
    # A full disk keeps the reason from being stored; it is still said.
    with contextlib.suppress(OSError, StoreError):
        store.fail(cell.id, reason)
    say("failed", error=reason)


def leave_with_parent(parent: int) -> None:
    """End this process soon after its driver is gone, whatever it is doing."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PAUSE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def entry() -> None:
    """Start a worker: ``python -m b4g.bench.worker RUN THREADS`` with the run's arguments in B4G_WORKER."""
    leave_with_parent(os.getppid())
    threads = int(sys.argv[2])
    # Progress bars and stray prints of libraries must not mix with events.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(threads)
    kept.install()
    main(Path(sys.argv[1]), json.loads(os.environ["B4G_WORKER"]), out)


if __name__ == "__main__":
    entry()
