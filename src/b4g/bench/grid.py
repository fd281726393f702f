"""A grid: models x seeds x activations, each a run of all tasks and tampers; planned whole, done by one set of workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from b4g.backdoor import TASKS
from b4g.bench.api import Bench, Prepared, joined, pool_of, prepare, workers_of
from b4g.bench.choose import OWN
from b4g.bench.drive import Driver, Outcome, Watch, silent
from b4g.bench.estimate import Estimate, estimate
from b4g.bench.joined import join, write_csv
from b4g.bench.plan import Cell, Plan
from b4g.bench.setup import FoundOut, Planner, arguments
from b4g.bench.store import read_json, write_json
from b4g.errors import SpecError, StoreError
from b4g.hashing import digest, file_digest
from b4g.options import named

if TYPE_CHECKING:
    from b4g.bench.ray_runner import Cluster


@dataclass(frozen=True)
class Axes:
    """What a grid goes over; every combination of model, seed and activation is a run."""

    models: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    activations: tuple[str, ...] = (OWN,)
    """``kind:option=value,...``; empty for the tasks' own."""
    tasks: tuple[str, ...] = TASKS
    tampers: tuple[str, ...] = ()
    preset: str = "quick"
    plugins: tuple[str, ...] = ()
    found_out: FoundOut | None = None
    """Scanners and measures of stealth that every run goes through."""

    def __post_init__(self) -> None:
        for name in ("models", "seeds", "activations", "tasks"):
            given = getattr(self, name)
            if not given or len(set(given)) != len(given):
                raise SpecError(f"a grid needs {name}, each once, not: {', '.join(map(str, given)) or 'none'}")

    def asked(self) -> list[dict[str, Any]]:
        """Return the arguments of each run, the runs of a model one after the other."""
        found = []
        for model, activation, seed in product(self.models, self.activations, self.seeds):
            made = arguments(model, self.tasks, self.preset, seed, self.plugins, self.tampers, self.found_out)
            found.append({**made, "activation": activation} if activation != OWN else made)
        return found


@dataclass(frozen=True)
class GridBench:
    """A grid that was run: its folder, what was done run by run, and the joined summary."""

    folder: Path
    outcomes: dict[str, Outcome]
    """By the run's id."""
    summary: dict[str, Any]
    reports: list[Path]
    """One a run."""

    @property
    def outcome(self) -> Outcome:
        """What was done, over all runs; names of cells begin with their run."""
        whole = Outcome()
        for run, one in self.outcomes.items():
            whole.done += [f"{run}: {name}" for name in one.done]
            whole.already += one.already
            whole.failed |= {f"{run}: {name}": reason for name, reason in one.failed.items()}
            whole.blocked += [f"{run}: {name}" for name in one.blocked]
            whole.seconds = max(whole.seconds, one.seconds)
        return whole


@dataclass(frozen=True)
class Grid:
    """A grid that is planned and not yet started; its runs' folders stand beside its own."""

    id: str
    axes: Axes
    runs: tuple[Prepared, ...]
    folder: Path
    workers: int
    cluster: "Cluster | None" = None

    @property
    def plans(self) -> list[Plan]:
        """The plan of each run."""
        return [run.plan for run in self.runs]

    @property
    def cells(self) -> list[Cell]:
        """The cells of all runs."""
        return [cell for run in self.runs for cell in run.plan.cells]

    @property
    def missing(self) -> list[Cell]:
        """The cells that are still to be done."""
        return [cell for run in self.runs for cell in run.missing]

    def estimate(self) -> Estimate:
        """What the missing cells will cost on this machine."""
        parts = [estimate(run.plan, run.missing, self.workers) for run in self.runs]
        sums = {name: sum(getattr(part, name) for part in parts) for name in ("cells", "answers", "rows", "seconds")}
        return Estimate(**sums)

    def run(self, watch: Watch | None = None, command: str = "") -> GridBench:
        """Do what is missing of every run and write each one's summary and report, then the joined summary.

        The same grid at work elsewhere raises `StoreError`.
        """
        found = {run.plan.id: run.finished() for run in self.runs}
        todo = [run for run in self.runs if found[run.plan.id] is None]
        if todo:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(self.folder / ".lock", timeout=0):
                    found |= self._do(todo, watch, command)
            except Timeout:
                raise StoreError(f"{self.folder} is in use by another b4g; wait for it or stop it") from None
        outcomes = {name: bench.outcome for name, bench in found.items() if bench}
        reports = [run.folder / "report.html" for run in self.runs]
        return GridBench(self.folder, outcomes, self._joined(command), reports)

    def _do(self, todo: Sequence[Prepared], watch: Watch | None, command: str) -> dict[str, Bench | None]:
        works = [run.work for run in todo]
        pool = pool_of(self.cluster, self.workers, self.folder, works)
        write_json(self.folder / "grid.json", self._plan(command))
        for run in todo:
            run.begin(command)
        outcomes = Driver(works, pool, watch or silent).run()
        return {run.plan.id: run.end(outcome, command) for run, outcome in zip(todo, outcomes, strict=True)}

    def _plan(self, command: str) -> dict[str, Any]:
        """Return the content of `grid.json`: the axes and the runs; no path, no secret."""
        plan = self.runs[0].plan
        return {
            "id": self.id,
            "models": list(dict.fromkeys(run.plan.base.name for run in self.runs)),
            "seeds": self.axes.seeds,
            "activations": self.axes.activations,
            "tasks": [found.name for found in plan.backdoors],
            "tampers": [named(tamper) for tamper in plan.tampers],
            "preset": self.axes.preset,
            "runs": self._heads(),
            "command": command,
        }

    def _heads(self) -> list[dict[str, Any]]:
        return [
            {
                "run": run.plan.id,
                "model": run.plan.base.name,
                "seed": run.plan.seed,
                "activation": run.asked.get("activation", OWN) or "own",
                "cells": len(run.plan.cells),
            }
            for run in self.runs
        ]

    def _joined(self, command: str) -> dict[str, Any]:
        """Return the joined summary, made anew only where a run's own has changed."""
        made_of = {run.plan.id: file_digest(run.folder / "summary.json") for run in self.runs}
        path = self.folder / "summary.json"
        if path.is_file():
            try:
                summary: dict[str, Any] = read_json(path)
            except StoreError:
                summary = {}
            if summary.get("made_of") == made_of:
                return summary
        parts = [
            (head, read_json(run.folder / "summary.json")) for head, run in zip(self._heads(), self.runs, strict=True)
        ]
        made = {"grid": self.id, "made_of": made_of, **join(parts)}
        write_json(self.folder / "grid.json", self._plan(command))
        write_csv(self.folder / "rates.csv", made["rates"])
        write_csv(self.folder / "over_seeds.csv", made["over_seeds"])
        write_json(path, made)
        return made


def prepared(
    axes: Axes, runs: Path = Path("runs"), workers: int | None = None, ray: str | None = None
) -> Prepared | Grid:
    """Return the run where the axes name one of the tasks' own activations, else the grid; both run alike."""
    asked = axes.asked()
    if len(asked) == 1 and axes.activations == (OWN,):
        return prepare(asked[0], runs, workers, ray)
    return prepare_grid(axes, runs, workers, ray)


def prepare_grid(axes: Axes, runs: Path = Path("runs"), workers: int | None = None, ray: str | None = None) -> Grid:
    """Return the planned grid; a wrong name on any axis raises now. No model is loaded, each is hashed once."""
    planner = Planner()
    plans = [(planner.plan(asked), asked) for asked in axes.asked()]
    ids = [plan.id for plan, _ in plans]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice:
        raise SpecError(f"two runs of the grid would be the same ({twice}): name each model and activation once")
    cluster = joined(ray)
    size = workers_of(workers, cluster)
    prepared = tuple(Prepared(plan, asked, runs / plan.id, size, cluster) for plan, asked in plans)
    name = f"grid-{axes.preset}-{digest(sorted(ids), 8)}"
    return Grid(name, axes, prepared, runs / name, size, cluster)
