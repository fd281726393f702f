"""Run a benchmark from Python or the command line: plan, do what is missing, summarise, report."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.backdoor import TASKS
from b4g.bench.estimate import Estimate, estimate
from b4g.bench.manifest import manifest, with_renderer
from b4g.bench.plan import ENDS, Cell, Plan
from b4g.bench.run import Outcome, Runner, Watch
from b4g.bench.setup import arguments, plan_of
from b4g.bench.store import Store, read_json, write_json
from b4g.errors import StoreError


@dataclass(frozen=True)
class Bench:
    """A finished run: its folder and what was done."""

    folder: Path
    outcome: Outcome
    summary: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A run that is planned and not yet started."""

    plan: Plan
    asked: dict[str, Any]
    folder: Path
    workers: int

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
        from b4g.bench.stages import summarise
        from b4g.report.build import write_report

        finished = None if self.missing else self._summary()
        if finished is not None:
            return Bench(self.folder, Outcome(already=len(self.plan.cells)), finished)
        write_json(self.folder / "plan.json", self.plan.to_json())
        write_json(self.folder / "manifest.json", manifest(self.plan, command))
        outcome = Runner(self.plan, self.asked, self.folder, self.workers, watch or _silent).run()
        summary = summarise(self.plan, Store(self.folder))
        write_json(self.folder / "summary.json", summary)
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


def prepare(asked: dict[str, Any], runs: Path = Path("runs"), workers: int | None = None) -> Prepared:
    """Return the planned run; any wrong name raises now, before the first second of compute."""
    plan = plan_of(asked)
    return Prepared(plan, asked, runs / plan.id, workers or default_workers())


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


def _silent(event: str, cell: Cell, said: dict[str, Any]) -> None:
    pass
