"""The driver: which cell goes to which worker, what a failure holds up. Every runner, local or on a cluster, is this loop."""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from filelock import FileLock, Timeout

from b4g.bench.estimate import START_SECONDS, estimate
from b4g.bench.plan import Cell, Plan
from b4g.bench.store import Store
from b4g.errors import StoreError

ATTEMPTS = 2
"""Times a cell is tried when its worker dies; a cell that fails by itself is not tried again in the same run."""
Event = dict[str, Any]
"""What a worker said of its cell (progress, done, failed), or that it is gone (died) or was never there (absent)."""
Watch = Callable[[str, Cell, Event], None]
"""Called with an event (start, progress, done, failed), its cell and what the worker said."""


def silent(event: str, cell: Cell, said: Event) -> None:
    """Watch a run and say nothing."""


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


@dataclass(frozen=True)
class Work:
    """One run to be done."""

    plan: Plan
    asked: Mapping[str, Any]
    """The arguments that a worker makes the same plan from."""
    folder: Path


class Pool(Protocol):
    """Workers, each in a slot; started when a cell is first given to their slot."""

    size: int

    def give(self, slot: int, work: Work, cell: Cell) -> None:
        """Start a cell in a slot; return at once."""

    def event(self) -> tuple[int, Event]:
        """Wait for the next event; a death says ``how`` and ``hint``."""

    def stop(self, now: bool) -> None:
        """End the workers, ``now`` in the middle of their cells."""


class Job(NamedTuple):
    """A cell of one of the runs."""

    run: int
    cell: Cell


class Queue:
    """The cells that are not done, in their order: those that may start, and those that wait for others."""

    def __init__(self, works: Sequence[Work], done: Sequence[set[str]]) -> None:
        self.jobs = [Job(r, c) for r, work in enumerate(works) for c in work.plan.cells if c.id not in done[r]]
        self._bases = [work.plan.base.place for work in works]
        self._lacks: dict[int, int] = {}
        self._then: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._ready: dict[str, list[int]] = defaultdict(list)
        self._places = {(job.run, job.cell.id): place for place, job in enumerate(self.jobs)}
        for place, job in enumerate(self.jobs):
            lacking = [need for need in set(job.cell.needs) if need not in done[job.run]]
            self._lacks[place] = len(lacking)
            for need in lacking:
                self._then[job.run, need].append(place)
            if not lacking:
                self._put(place)

    def _put(self, place: int) -> None:
        heapq.heappush(self._ready[self._bases[self.jobs[place].run]], place)

    def pop(self, base: str | None) -> Job | None:
        """Return the first cell that may start, of that base if there is one: it is loaded already."""
        found = self._ready.get(base or "") or min(filter(None, self._ready.values()), default=None)
        return self.jobs[heapq.heappop(found)] if found else None

    def back(self, job: Job) -> None:
        """Put a cell back that was popped and is to be tried again."""
        self._put(self._places[job.run, job.cell.id])

    def done(self, job: Job) -> None:
        """Let those start that waited for this cell alone."""
        for place in self._then.pop((job.run, job.cell.id), ()):
            self._lacks[place] -= 1
            if not self._lacks[place]:
                self._put(place)

    def blocked(self) -> Iterable[Job]:
        """Yield the cells that wait for others."""
        return (self.jobs[place] for place, lacks in self._lacks.items() if lacks)


class Driver:
    """Do what is missing of some runs; every decision is in one thread."""

    def __init__(self, works: Sequence[Work], pool: Pool, watch: Watch) -> None:
        self.works, self.pool, self.watch = works, pool, watch
        self.stores = [Store(work.folder) for work in works]
        self.outcomes = [Outcome() for _ in works]
        self.busy: dict[int, Job] = {}
        self.slots = set(range(pool.size))
        self.loaded: dict[int, str] = {}
        self.tries: dict[tuple[int, str], int] = {}

    def run(self) -> list[Outcome]:
        """Return what was done, run by run; another run in one of the folders raises `StoreError`."""
        started = time.perf_counter()
        with ExitStack() as locks:
            for work in self.works:
                work.folder.mkdir(parents=True, exist_ok=True)
                try:
                    locks.enter_context(FileLock(work.folder / ".lock", timeout=0))
                except Timeout:
                    raise StoreError(f"{work.folder} is in use by another b4g; wait for it or stop it") from None
            try:
                self._loop()
            finally:
                self.pool.stop(bool(self.busy))
        for outcome in self.outcomes:
            outcome.seconds = time.perf_counter() - started
        return self.outcomes

    def _loop(self) -> None:
        done = [
            {cell.id for cell in work.plan.cells if store.is_done(cell.id)}
            for work, store in zip(self.works, self.stores, strict=True)
        ]
        for outcome, cells in zip(self.outcomes, done, strict=True):
            outcome.already = len(cells)
        self.queue = Queue(self.works, done)
        self.clock = _Clock(self.works, self.queue.jobs)
        self._dispatch()
        while self.busy:
            self._handle(*self.pool.event())
            self._dispatch()
        for job in self.queue.blocked():
            self.outcomes[job.run].blocked.append(job.cell.name)

    def _dispatch(self) -> None:
        for slot in sorted(self.slots - self.busy.keys()):
            job = self.queue.pop(self.loaded.get(slot))
            if job is None:
                return
            self.busy[slot] = job
            self.loaded[slot] = self.works[job.run].plan.base.place
            self.watch("start", job.cell, {})
            self.pool.give(slot, self.works[job.run], job.cell)

    def _handle(self, slot: int, event: Event) -> None:
        job, kind = self.busy.get(slot), event["event"]
        if kind in ("died", "absent"):
            self.loaded.pop(slot, None)
            self.busy.pop(slot, None)
            if kind == "absent":
                self.slots.discard(slot)
            if job is not None:
                self._lost(job, event)
            return
        if job is None or event["cell"] != job.cell.id:
            return
        outcome = self.outcomes[job.run]
        if kind == "done":
            self.queue.done(job)
            outcome.done.append(job.cell.name)
        elif kind == "failed":
            outcome.failed[job.cell.name] = event["error"]
        if kind != "progress":
            del self.busy[slot]
            event = {**event, "left": self.clock.left(job)}
        self.watch(kind, job.cell, event)

    def _lost(self, job: Job, event: Event) -> None:
        """Try a cell whose worker is gone once more, or give it up; a worker that was never there is no try."""
        key = (job.run, job.cell.id)
        self.tries[key] = self.tries.get(key, 0) + (event["event"] == "died")
        if self.tries[key] < ATTEMPTS:
            self.queue.back(job)
            return
        reason = f"its worker died {ATTEMPTS} times ({event['how']}); {event['hint']}"
        self.stores[job.run].fail(job.cell.id, reason)
        self.outcomes[job.run].failed[job.cell.name] = reason
        self.watch("failed", job.cell, {"error": reason, "left": self.clock.left(job)})


class _Clock:
    """The time that is left, from the time taken so far and what the cells should cost beside each other."""

    def __init__(self, works: Sequence[Work], jobs: Sequence[Job]) -> None:
        self.started = time.perf_counter()
        plans = [work.plan for work in works]
        self.costs = {(j.run, j.cell.id): _cost(plans[j.run], j.cell) for j in jobs}
        self.total, self.done = sum(self.costs.values()), 0.0

    def left(self, job: Job) -> float:
        """Return the seconds that are left once this cell is over."""
        self.done += self.costs.pop((job.run, job.cell.id), 0.0)
        return (time.perf_counter() - self.started) * (self.total - self.done) / self.done if self.done else 0.0


def _cost(plan: Plan, cell: Cell) -> float:
    """Return what a cell should take, in seconds of a reference machine; those that only read files take little."""
    return max(0.1, estimate(plan, [cell], 1).seconds - START_SECONDS)
