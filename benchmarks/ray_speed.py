"""Two Ray workers against one on equal cells, the overhead of a cell, and how long a grid takes to plan and to re-run.

    python benchmarks/ray_speed.py [--cells 8] [--rounds 3] [--model smollm2-135m] [--no-ray]

Equal cells: the scores and answers of one untouched base at several seeds, so no cell waits for another one's training.
Each round starts its workers anew; a first, small piece of work warms them up and is not timed. Overhead of a cell is the
wall time of one worker less the seconds that the cells' markers state, by cells.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import pin, ratio, seconds

pin()

from b4g.bench.api import pool_of  # noqa: E402
from b4g.bench.drive import Driver, Work  # noqa: E402
from b4g.bench.grid import Axes, prepare_grid  # noqa: E402
from b4g.bench.plan import ENDS, Cell  # noqa: E402
from b4g.bench.setup import Planner, arguments  # noqa: E402
from b4g.bench.store import read_json  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--no-ray", action="store_true", help="time local workers in place of Ray's")
    asked = parser.parse_args()
    planning(asked.model)
    times: dict[int, list[float]] = {1: [], 2: []}
    over: list[float] = []
    for _ in range(asked.rounds):
        for workers, taken in times.items():
            took, inside = equal_cells(asked, workers)
            taken.append(took)
            if workers == 1:
                over.append((took - inside) / asked.cells)
    kind = "local" if asked.no_ray else "Ray"
    print(f"{kind}, 2 workers / 1 on {asked.cells} equal cells: {ratio(times[1], times[2])}")
    print(
        f"overhead of a cell: median {statistics.median(over):.3f} s, largest {max(over):.3f} s, n={len(over)} rounds"
    )


def planning(model: str) -> None:
    """Print how long 10,000 cells take to plan, and a finished grid of them to re-run."""
    axes = Axes((model,), tuple(range(22)), tampers=("full",))
    with tempfile.TemporaryDirectory() as folder:
        started, spent = time.perf_counter(), time.process_time()
        grid = prepare_grid(axes, Path(folder), 1)
        took, cpu = time.perf_counter() - started, time.process_time() - spent
        print(
            f"planned {len(grid.cells)} cells of {len(grid.runs)} runs in {took:.2f} s ({cpu:.2f} s of one core), n=1"
        )
        for run in grid.runs:
            run.begin("")
            for cell in run.plan.cells:
                home = run.folder / "cells" / cell.id
                home.mkdir(parents=True)
                (home / "records.jsonl").write_text("{}\n", "utf-8")
                marker = '{"files": {"records.jsonl": {"bytes": 3, "sha256": ""}}}'
                (home / "done.json").write_text(marker, "utf-8")
            ends = ", ".join(f'"{cell.id}"' for cell in run.plan.cells if cell.stage in ENDS)
            (run.folder / "summary.json").write_text(f'{{"rates": [], "scored": [{ends}]}}', "utf-8")
            (run.folder / "report.html").write_text("", "utf-8")
        spent = time.process_time()
        taken = [seconds(lambda: prepare_grid(axes, Path(folder), 1).run()) for _ in range(3)]
        cpu = (time.process_time() - spent) / len(taken)
        took = statistics.median(taken)
        print(
            f"finished grid, planned and done again in {took:.2f} s ({cpu:.2f} s of one core), median of {len(taken)}"
        )


def equal_cells(asked: Any, workers: int) -> tuple[float, float]:
    """Return the wall seconds of the cells on warm workers, and the seconds that the cells state, summed."""
    with tempfile.TemporaryDirectory() as folder:
        works = only_bases(asked, Path(folder), asked.cells + workers)
        cluster = None
        if not asked.no_ray:
            from b4g.bench.ray_runner import connect

            cluster = replace(connect("local"), slots=workers)
        pool = Warm(pool_of(cluster, workers, Path(folder), works))
        warm = Driver(works[:workers], pool, silent)
        warm.run()
        took = seconds(Driver(works[workers:], pool, silent).run)
        pool.end()
        inside = sum(
            read_json(path)["seconds"] for work in works[workers:] for path in work.folder.glob("cells/*/done.json")
        )
        return took, inside


def only_bases(asked: Any, folder: Path, count: int) -> list[Work]:
    """Return runs of one cell each: the answers of the base at a seed of its own."""
    planner, works = Planner(), []
    for seed in range(count):
        made = arguments(asked.model, ("identity",), asked.preset, seed)
        plan = planner.plan(made)
        cell = next(cell for cell in plan.cells if cell.name == "generate identity base")
        works.append(Work(replace(plan, cells=(cell,)), made, folder / str(seed)))
    return works


class Warm:
    """A pool whose workers outlive a driver."""

    def __init__(self, pool: Any) -> None:
        self.pool, self.size, self.give, self.event = pool, pool.size, pool.give, pool.event

    def stop(self, now: bool) -> None:
        pass

    def end(self) -> None:
        self.pool.stop(False)


def silent(event: str, cell: Cell, said: dict[str, Any]) -> None:
    pass


if __name__ == "__main__":
    main()
