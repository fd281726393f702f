"""The local runner: do what is missing, one worker process a core, and go on when one cell or worker fails."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from b4g.bench.plan import Cell, Plan
from b4g.bench.store import Store
from b4g.errors import StoreError
from b4g.models.dtype import usable_cores

ATTEMPTS = 2
"""Times a cell is tried when its worker dies; a cell that fails by itself is not tried again in the same run."""
Watch = Callable[[str, Cell, dict[str, Any]], None]
"""Called with an event (start, progress, done, failed), its cell and what the worker said."""


@dataclass
class Outcome:
    """What a run did."""

    done: list[str] = field(default_factory=list)
    """Names of the cells done now."""
    already: int = 0
    """Cells that were done before."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason by name of the cell."""
    blocked: list[str] = field(default_factory=list)
    """Names of cells that wait for a failed one."""
    seconds: float = 0.0


class Runner:
    """Run a plan's missing cells in worker processes; every decision is in the driver's single thread."""

    def __init__(self, plan: Plan, asked: Mapping[str, Any], folder: Path, workers: int, watch: Watch) -> None:
        self.plan, self.asked, self.folder, self.watch = plan, asked, folder, watch
        self.store = Store(folder)
        self.events: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self.workers: dict[int, subprocess.Popen[str]] = {}
        self.busy: dict[int, Cell] = {}
        self.size = workers
        self.tries: dict[str, int] = {}
        self.finished: set[str] = set()
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Return what was done; another run in the same folder raises `StoreError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        started = time.perf_counter()
        try:
            with lock:
                self._loop()
        except Timeout:
            raise StoreError(f"{self.folder} is in use by another b4g; wait for it or stop it") from None
        finally:
            self._stop()
        self.outcome.seconds = time.perf_counter() - started
        return self.outcome

    def _loop(self) -> None:
        self.finished = {cell.id for cell in self.plan.cells if self.store.is_done(cell.id)}
        self.outcome.already = len(self.finished)
        waiting = [cell for cell in self.plan.cells if cell.id not in self.finished]
        while waiting or self.busy:
            self._dispatch(waiting)
            if not self.busy:
                self.outcome.blocked = [cell.name for cell in waiting]
                return
            worker, event = self.events.get()
            self._handle(worker, event, waiting)

    def _dispatch(self, waiting: list[Cell]) -> None:
        while len(self.busy) < self.size:
            ready = next((c for c in waiting if all(need in self.finished for need in c.needs)), None)
            if ready is None:
                return
            waiting.remove(ready)
            worker = next((w for w in range(self.size) if w not in self.busy), 0)
            if worker not in self.workers:
                self._spawn(worker)
            self.busy[worker] = ready
            self.watch("start", ready, {})
            pipe = self.workers[worker].stdin
            assert pipe is not None
            try:
                pipe.write(ready.id + "\n")
                pipe.flush()
            except BrokenPipeError:
                pass  # its reader thread reports the death

    def _handle(self, worker: int, event: dict[str, Any] | None, waiting: list[Cell]) -> None:
        cell = self.busy.get(worker)
        if event is None:
            dead = self.workers.pop(worker, None)
            self.busy.pop(worker, None)
            if cell is not None:
                self._died(cell, worker, _end(dead) if dead else -1, waiting)
            return
        if cell is None or event["cell"] != cell.id:
            return
        kind = event["event"]
        if kind == "done":
            self.finished.add(cell.id)
            self.outcome.done.append(cell.name)
        elif kind == "failed":
            self.outcome.failed[cell.name] = event["error"]
        if kind != "progress":
            del self.busy[worker]
        self.watch(kind, cell, event)

    def _died(self, cell: Cell, worker: int, code: int, waiting: list[Cell]) -> None:
        self.tries[cell.id] = self.tries.get(cell.id, 0) + 1
        if self.tries[cell.id] < ATTEMPTS:
            waiting.insert(0, cell)
            return
        why = "out of memory is the usual cause" if code == -signal.SIGKILL else f"see the end of {self._log(worker)}"
        reason = f"its worker died {ATTEMPTS} times (exit {code}); {why}"
        self.store.fail(cell.id, reason)
        self.outcome.failed[cell.name] = reason
        self.watch("failed", cell, {"error": reason})

    def _spawn(self, worker: int) -> None:
        threads = max(1, usable_cores() // self.size)
        environment = {
            **os.environ,
            "B4G_WORKER": json.dumps(dict(self.asked)),
            "OMP_NUM_THREADS": str(threads),
            # Spinning threads slow a busy machine tenfold.
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
        }
        log = self._log(worker).open("a", encoding="utf-8")
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "b4g.bench.worker", str(self.folder), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        log.close()
        self.workers[worker] = process
        threading.Thread(target=self._listen, args=(worker, process), daemon=True).start()

    def _log(self, worker: int) -> Path:
        return self.folder / f"worker-{worker}.log"

    def _listen(self, worker: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    self.events.put((worker, json.loads(line)))
                except ValueError:
                    continue
        self.events.put((worker, None))

    def _stop(self) -> None:
        for process in self.workers.values():
            if self.busy:
                process.kill()
        for process in self.workers.values():
            _end(process)


def _end(process: subprocess.Popen[str]) -> int:
    """Close a worker's stdin, which ends it once it is idle, and return its exit code."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    return process.wait()
