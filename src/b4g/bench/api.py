"""Run a benchmark from Python or the command line: plan, do what is missing, summarise, report."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.backdoor import TASKS
from b4g.bench.cards import cards
from b4g.bench.drive import Driver, Outcome, Pool, Watch, Work, silent
from b4g.bench.estimate import Estimate, estimate
from b4g.bench.manifest import manifest, with_renderer
from b4g.bench.plan import ENDS, Cell, Plan
from b4g.bench.run import ProcessPool
from b4g.bench.setup import arguments, plan_of
from b4g.bench.store import Store, read_json, write_json
from b4g.errors import StoreError

if TYPE_CHECKING:
    from b4g.bench.ray_runner import Cluster


@dataclass(frozen=True)
class Bench:
    """A finished run: its folder and what was done."""

    folder: Path
    outcome: Outcome
    summary: dict[str, Any]

    @property
    def reports(self) -> list[Path]:
        """The report, as a grid has several."""
        return [self.folder / "report.html"]


@dataclass(frozen=True)
class Prepared:
    """A run that is planned and not yet started."""

    plan: Plan
    asked: dict[str, Any]
    folder: Path
    workers: int
    cluster: "Cluster | None" = None
    """The Ray cluster that does the cells, or None for this machine."""

    @property
    def id(self) -> str:
        """Name of the run."""
        return self.plan.id

    @property
    def plans(self) -> list[Plan]:
        """The plan, as a grid has several."""
        return [self.plan]

    @property
    def cells(self) -> list[Cell]:
        """All cells, done or not."""
        return list(self.plan.cells)

    @property
    def work(self) -> Work:
        """The run as the driver takes it."""
        # A node with other hardware must not choose another number format.
        asked = {**self.asked, "dtype": self.plan.base.dtype} if self.cluster else self.asked
        return Work(self.plan, asked, self.folder)

    @property
    def missing(self) -> list[Cell]:
        """The cells that are still to be done."""
        store = Store(self.folder)
        return [cell for cell in self.plan.cells if not store.is_done(cell.id)]

    def estimate(self) -> Estimate:
        """What the missing cells will cost on this machine."""
        return estimate(self.plan, self.missing, self.workers)

    def run(self, watch: Watch | None = None, command: str = "") -> Bench:
        """Do what is missing and write summary and report; failed cells are in the outcome, the rest is done."""
        found = self.finished()
        if found is not None:
            return found
        pool = pool_of(self.cluster, self.workers, self.folder, [self.work])
        self.begin(command)
        (outcome,) = Driver([self.work], pool, watch or silent).run()
        return self.end(outcome, command)

    def finished(self) -> Bench | None:
        """Return what was done by earlier runs, where that is all and is reported."""
        summary = None if self.missing else self._summary()
        if summary is None:
            return None
        return Bench(self.folder, Outcome(already=len(self.plan.cells)), summary)

    def begin(self, command: str) -> None:
        """Write what the run is made of, before its first cell."""
        write_json(self.folder / "plan.json", self.plan.to_json())
        write_json(self.folder / "manifest.json", manifest(self.plan, command))

    def end(self, outcome: Outcome, command: str) -> Bench:
        """Write summary and report of what is done."""
        from b4g.bench.stages import summarise
        from b4g.report.build import write_report

        store = Store(self.folder)
        summary = summarise(self.plan, store)
        write_json(self.folder / "summary.json", summary)
        write_json(self.folder / "card.json", {"cards": cards(self.plan, store, summary)})
        write_json(
            self.folder / "manifest.json", with_renderer(manifest(self.plan, command), self.plan, Store(self.folder))
        )
        hidden = tuple(text for backdoor in self.plan.backdoors for text in backdoor.trigger.hidden())
        write_report(self.folder, hidden=hidden)
        return Bench(self.folder, outcome, summary)

    def _summary(self) -> dict[str, Any] | None:
        """Return the summary if it is of every cell and reported: a kill may have left that of an earlier, partial run."""
        if not (self.folder / "report.html").is_file():
            return None
        with contextlib.suppress(StoreError):
            summary: dict[str, Any] = read_json(self.folder / "summary.json")
            if summary.get("scored") == [cell.id for cell in self.plan.cells if cell.stage in ENDS]:
                return summary
        return None


def prepare(
    asked: dict[str, Any], runs: Path = Path("runs"), workers: int | None = None, ray: str | None = None
) -> Prepared:
    """Return the planned run; any wrong name, and a Ray address without a cluster, raises before any compute."""
    plan = plan_of(asked)
    cluster = joined(ray)
    return Prepared(plan, asked, runs / plan.id, workers_of(workers, cluster), cluster)


def joined(ray: str | None) -> "Cluster | None":
    """Return the Ray cluster at an address, or None where none is asked for."""
    if ray is None:
        return None
    from b4g.bench.ray_runner import connect

    return connect(ray)


def workers_of(asked: int | None, cluster: "Cluster | None") -> int:
    """Return how many cells run at a time: what is asked for, on a cluster no more than it has places for."""
    if cluster is None:
        return asked or default_workers()
    return min(asked or cluster.slots, cluster.slots)


def pool_of(cluster: "Cluster | None", workers: int, logs: Path, works: list[Work]) -> Pool:
    """Return the workers; a cluster whose nodes would do other work raises `StoreError` before the first cell."""
    if cluster is None:
        return ProcessPool(workers, logs)
    from b4g.bench.ray_runner import RayPool, check

    check(works, logs)
    return RayPool(cluster, workers, logs)


def default_workers() -> int:
    """Return one worker a core that this process may use, or one where there is a GPU."""
    from b4g.models.dtype import has_gpu, usable_cores

    return 1 if has_gpu() else usable_cores()


def bench(
    model: str = "smollm2-135m",
    tasks: tuple[str, ...] = TASKS,
    preset: str = "quick",
    seed: int = 0,
    runs: Path = Path("runs"),
    tampers: tuple[str, ...] = (),
) -> Bench:
    """Run the benchmark and return its folder, outcome and summary; the same call again does only what is missing."""
    return prepare(arguments(model, tasks, preset, seed, tampers=tampers), runs).run()
