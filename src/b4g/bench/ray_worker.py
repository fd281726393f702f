"""What runs on the nodes of a Ray cluster: a worker that does cells as a local one does, and the check before the first cell.

Nothing here imports Ray: `ray_runner` hands these to it.
"""

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from b4g.errors import B4GError, StoreError
from b4g.hashing import digest, file_digest

Event = dict[str, Any]


class RayWorker:
    """A worker process of the cluster: one cell at a time, the base and the plans kept between them."""

    def __init__(self, environment: Mapping[str, str], threads: int) -> None:
        # Before torch is imported, which reads it once.
        os.environ.update(environment)
        from b4g.bench.worker import Plans
        from b4g.models import kept

        kept.install()
        self.threads, self.plans = threads, Plans()

    def ready(self) -> bool:
        """Return True: the process is up."""
        return True

    def serve(self, run: Mapping[str, Any], cell_id: str, log: str) -> Iterator[Event]:
        """Do one cell of a run (``folder``, ``asked``, ``plan``) and yield its events; stray prints go to ``log``."""
        events: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._work, args=(run, cell_id, log, events), daemon=True).start()
        while (event := events.get()) is not None:
            yield event

    def _work(self, run: Mapping[str, Any], cell_id: str, log: str, events: "queue.Queue[Event | None]") -> None:
        import torch

        from b4g.bench.store import Store
        from b4g.bench.worker import do

        torch.set_num_threads(self.threads)  # each thread has its own
        try:
            _redirect(Path(log))
            folder = Path(run["folder"])
            plan = self.plans.of(folder, run["asked"])
            if plan.id != run["plan"]:
                raise StoreError("this node plans other cells: a model, a specification or a plug-in differs here")
            do(plan, Store(folder), plan.cell(cell_id), events.put)
        except Exception as error:  # a plug-in that this node lacks; the driver waits for a last word
            reason = str(error) if isinstance(error, B4GError) else f"{type(error).__name__}: {error}"
            events.put({"cell": cell_id, "event": "failed", "error": reason})
        finally:
            events.put(None)


def _redirect(log: Path) -> None:
    """Let what libraries print go to a file of the run, as it does from a local worker."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def examine(mark: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a node has: its version and code, whether it sees the file ``mark``, and the plans it makes of runs."""
    from b4g.bench.setup import Planner

    found: dict[str, Any] = {"version": version("b4g"), "code": code_hash(), "sees": Path(mark).is_file(), "plans": []}
    planner = Planner()
    try:
        found["plans"] = [planner.plan(asked).id for asked in runs] if found["sees"] else []
    except B4GError as error:
        found["error"] = str(error)
    return found


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Return the hash of every source file and data file of the installed package."""
    root = Path(str(resources.files("b4g")))
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest([[str(path.relative_to(root)), file_digest(path)] for path in files])
