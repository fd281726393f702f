"""The Ray runner: the driver's cells on the workers of a cluster, with the folder of runs shared between its nodes.

A slot is an actor that holds one GPU, or one CPU where the cluster has none. Ray only starts processes and carries cell
ids and events: which cell runs, what a failure holds up and when to try again is `bench.drive`, as on one machine.
"""

import importlib
import logging
import os
import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.bench.drive import Event, Work
from b4g.bench.plan import Cell
from b4g.bench.ray_worker import RayWorker, code_hash, examine
from b4g.bench.store import write_text
from b4g.errors import SpecError, StoreError

START_SECONDS = 90.0
"""A worker that does not start in this time is given up, if others run: its node is gone or its place is taken."""
CHECK_SECONDS = 180.0
REACH_SECONDS = 5.0
PASSED = ("B4G_CACHE", "HF_HUB_OFFLINE", "HF_HOME")
"""Variables of the driver that its workers get. No token: a node logs in for itself."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined."""

    slots: int
    """Cells that can run at a time."""
    gpus: bool
    threads: int
    """CPU threads of a worker."""

    @property
    def needs(self) -> dict[str, int]:
        """What a worker asks Ray for."""
        return {"num_cpus": 0, "num_gpus": 1} if self.gpus else {"num_cpus": 1}


def connect(address: str) -> Cluster:
    """Return the cluster at an address (HOST:PORT, ``auto``: the one found here, ``local``: one started here).

    Raises `SpecError` where Ray is missing or no cluster answers.
    """
    if address.startswith("ray://"):
        raise SpecError("Ray's client (ray://) is not supported: run b4g on a node of the cluster with --ray auto")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = _ray()
    if not ray.is_initialized():
        _reach(address)
        where = {"include_dashboard": False} if address == "local" else {"address": address}
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _absent(address, error) from error
    has = ray.cluster_resources()
    cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    if not cpus and not gpus:
        raise SpecError(f"the Ray cluster at '{address}' has neither a CPU nor a GPU to run cells on")
    return Cluster(gpus or cpus, gpus > 0, max(1, cpus // gpus) if gpus else 1)


def _reach(address: str) -> None:
    """Raise `SpecError` where nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _absent(address, error) from None


def _absent(address: str, error: Exception) -> SpecError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return SpecError(
        f"no Ray cluster at '{address}' ({said[0][:200]}). Start one with: ray start --head, or use --ray local"
    )


def check(works: Sequence[Work], folder: Path) -> None:
    """Raise `StoreError` where a node runs other code, does not see the folder, or would plan other cells."""
    ray = _ray()
    mark = folder / f".ray-{os.getpid()}"
    write_text(mark, "")
    first = list({work.plan.base.place: work for work in works}.values())
    probe = ray.remote(num_cpus=0, max_retries=0)(examine)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [dict(work.asked) for work in first]
    try:
        found = {
            node["NodeManagerHostname"]: probe.options(
                scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                    node["NodeID"], soft=False
                )
            ).remote(str(mark), asked)
            for node in nodes
        }
        for name, ref in found.items():
            try:
                _same(name, ray.get(ref, timeout=CHECK_SECONDS), folder, [work.plan.id for work in first])
            except ray.exceptions.RayError as error:
                raise StoreError(f"node {name} can't run b4g ({_first_line(error)}). Install it there.") from error
    finally:
        mark.unlink(missing_ok=True)


def _same(node: str, found: dict[str, Any], folder: Path, plans: list[str]) -> None:
    from importlib.metadata import version

    own = version("b4g"), code_hash()
    if (found["version"], found["code"]) != own:
        raise StoreError(
            f"node {node} runs b4g {found['version']} (code {found['code']}), this machine {own[0]} (code {own[1]}): "
            "their numbers may differ. Install the same b4g on every node and restart Ray there."
        )
    if not found["sees"]:
        raise StoreError(f"node {node} does not see {folder}: keep runs in a folder that all nodes share (--runs)")
    if "error" in found:
        raise StoreError(f"node {node} can't plan this run: {found['error']}")
    if found["plans"] != plans:
        raise StoreError(f"node {node} would do other cells: the model, a specification or a plug-in differs there")


class RayPool:
    """Workers of a cluster, one actor a slot; a pool of `bench.drive`."""

    def __init__(self, cluster: Cluster, size: int, logs: Path) -> None:
        self.cluster, self.size, self.logs = cluster, size, logs.resolve()
        self.actors: dict[int, Any] = {}
        self._up: set[int] = set()
        self.events: queue.Queue[tuple[int, Event]] = queue.Queue()

    def give(self, slot: int, work: Work, cell: Cell) -> None:
        """Start a cell in a slot; return at once."""
        if slot not in self.actors:
            self.actors[slot] = self._start()
        run = {"folder": str(work.folder.resolve()), "asked": dict(work.asked), "plan": work.plan.id}
        threading.Thread(target=self._listen, args=(slot, self.actors[slot], run, cell.id), daemon=True).start()

    def event(self) -> tuple[int, Event]:
        """Wait for the next event of any worker."""
        slot, event = self.events.get()
        if event["event"] in ("died", "absent"):
            self._end(slot)
        return slot, event

    def stop(self, now: bool) -> None:
        """End the workers; a cell in its middle is lost, and done again by the next run."""
        for slot in list(self.actors):
            self._end(slot)

    def _start(self) -> Any:
        ray = _ray()

        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment |= {
            "OMP_NUM_THREADS": str(self.cluster.threads),
            # Spinning threads slow a busy machine tenfold.
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
        }
        options = {"max_restarts": 0, "scheduling_strategy": "SPREAD", **self.cluster.needs}
        return ray.remote(RayWorker).options(**options).remote(environment, self.cluster.threads)

    def _listen(self, slot: int, actor: Any, run: dict[str, Any], cell_id: str) -> None:
        ray = _ray()

        log = self.logs / f"worker-{slot}.log"
        try:
            if slot not in self._up and not self._wait(actor):
                self.events.put((slot, {"event": "absent"}))
                return
            self._up.add(slot)
            for ref in actor.serve.remote(run, cell_id, str(log)):
                self.events.put((slot, ray.get(ref)))
        except ray.exceptions.RayError as error:
            hint = f"a lost node or full memory is the usual cause; see the end of {log}"
            self.events.put((slot, {"event": "died", "how": _first_line(error), "hint": hint}))

    def _wait(self, actor: Any) -> bool:
        """Wait until a worker is up; return False once it took too long and others run."""
        ray = _ray()

        ready = actor.ready.remote()
        while not ray.wait([ready], timeout=START_SECONDS)[0]:
            if self._up:
                return False
        ray.get(ready)  # raises what kept it from starting
        return True

    def _end(self, slot: int) -> None:
        ray = _ray()

        self._up.discard(slot)
        actor = self.actors.pop(slot, None)
        if actor is not None:
            ray.kill(actor)


def _ray() -> Any:
    """Return the module; without it `SpecError` says what to type."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise SpecError('--ray needs Ray. Type: pip install "b4g[ray]"') from None


def _first_line(error: Exception) -> str:
    said = [line for line in str(getattr(error, "cause", None) or error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {said[0].strip()[:200]}" if said else type(error).__name__
