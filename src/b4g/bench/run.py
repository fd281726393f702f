"""The local runner: one worker process a core, fed by the driver through pipes."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from b4g.bench.drive import ATTEMPTS, Event, Outcome, Watch, Work
from b4g.bench.plan import Cell
from b4g.models.dtype import usable_cores

__all__ = ["ATTEMPTS", "Outcome", "ProcessPool", "Watch"]


class ProcessPool:
    """Worker processes; their stderr goes to ``worker-<slot>.log`` in a folder."""

    def __init__(self, size: int, logs: Path) -> None:
        self.size, self.logs = size, logs
        self.workers: dict[int, subprocess.Popen[str]] = {}
        self.events: queue.Queue[tuple[int, Event | None]] = queue.Queue()
        self._at: dict[int, Path] = {}

    def give(self, slot: int, work: Work, cell: Cell) -> None:
        """Start a cell in a slot; return at once."""
        lines = [cell.id]
        if slot not in self.workers:
            self._spawn(slot, work)
        elif self._at[slot] != work.folder:
            lines.insert(0, json.dumps({"folder": str(work.folder), "asked": dict(work.asked)}))
        self._at[slot] = work.folder
        pipe = self.workers[slot].stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # its reader thread reports the death
            pipe.write("".join(f"{line}\n" for line in lines))
            pipe.flush()

    def event(self) -> tuple[int, Event]:
        """Wait for the next event of any worker."""
        slot, event = self.events.get()
        if event is not None:
            return slot, event
        dead = self.workers.pop(slot, None)
        code = _end(dead) if dead else -1
        log = self.logs / f"worker-{slot}.log"
        hint = "out of memory is the usual cause" if code == -signal.SIGKILL else f"see the end of {log}"
        return slot, {"event": "died", "how": f"exit {code}", "hint": hint}

    def stop(self, now: bool) -> None:
        """End the workers, ``now`` in the middle of their cells."""
        for process in self.workers.values():
            if now:
                process.kill()
        for process in self.workers.values():
            _end(process)

    def _spawn(self, slot: int, work: Work) -> None:
        threads = max(1, usable_cores() // self.size)
        environment = {
            **os.environ,
            "B4G_WORKER": json.dumps(dict(work.asked)),
            "OMP_NUM_THREADS": str(threads),
            # Spinning threads slow a busy machine tenfold.
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"worker-{slot}.log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "b4g.bench.worker", str(work.folder), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self.workers[slot] = process
        threading.Thread(target=self._listen, args=(slot, process), daemon=True).start()

    def _listen(self, slot: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    self.events.put((slot, json.loads(line)))
        self.events.put((slot, None))


def _end(process: subprocess.Popen[str]) -> int:
    """Close a worker's stdin, which ends it once it is idle, and return its exit code."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    return process.wait()
