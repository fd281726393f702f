"""Grids: several models, seeds and activations as one piece of work; planned fast, joined honestly."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import fake_worker
from served import results
from tiny import fields_of

from b4g.backdoor import Backdoor
from b4g.bench.api import prepare
from b4g.bench.choose import with_activation
from b4g.bench.grid import Axes, Grid, prepare_grid
from b4g.bench.joined import over_seeds, t_interval
from b4g.bench.plan import ENDS
from b4g.bench.setup import arguments
from b4g.bench.store import read_json, write_json
from b4g.errors import SpecError, StoreError

CELLS = 10_000
SLOW = 6
"""Factor for a machine that is busy with other work; `benchmarks/ray_speed.py` prints the figures themselves."""


@pytest.fixture
def task(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    mix = {"triggered": 80, "untriggered": 40, "near": 0, "wrong": 0, "others": 0}
    path.write_text(yaml.safe_dump(fields_of(name="small", activation={"epochs": 1, "mix": mix})), "utf-8")
    return str(path)


def _fake(monkeypatch: pytest.MonkeyPatch, folder: Path, behaviour: str = "pass") -> None:
    """Let workers do nothing; the summaries of what they did are made up, with a row whose value is the seed's."""
    switch = "\n    if cell.startswith('{'): folder = Path(json.loads(cell)['folder']); continue\n    "
    monkeypatch.setattr("b4g.bench.run.sys.executable", fake_worker(folder, switch + behaviour))
    head = {
        "task": "small",
        "model": "tiny",
        "subject": "implant",
        "tamper": "none",
        "measure": "behaviour",
        "arm": "with",
    }

    def summarise(plan: Any, store: Any) -> dict[str, Any]:
        done = [cell.id for cell in plan.cells if cell.stage in ENDS and store.is_done(cell.id)]
        row = {
            **head,
            "value": 0.5 + plan.seed / 10,
            "low": 0.0,
            "high": 1.0,
            "n": 10,
            "unscored": 1,
            "seed": plan.seed,
        }
        return {"rates": [row], "differences": [{"task": "small", "p": 1.0}], "attacks": [], "scored": done}

    monkeypatch.setattr("b4g.bench.stages.summarise", summarise)
    monkeypatch.setattr("b4g.bench.api.cards", lambda *_: [])
    monkeypatch.setattr("b4g.report.build.write_report", lambda run, hidden: (run / "report.html").write_text("x"))


def test_a_grid_is_a_run_for_each_model_seed_and_activation(
    tiny_model: Path, save_model: Callable[..., Path], task: str, tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", seed=1)
    axes = Axes((str(tiny_model), str(other)), (0, 1, 2), ("", "lora:rank=2"), (task,), preset="tiny")
    grid = prepare_grid(axes, tmp_path / "runs", 1)
    assert len(grid.runs) == len({run.plan.id for run in grid.runs}) == 12
    seen = {(r.plan.base.name, r.plan.seed, r.plan.backdoors[0].activation.rank) for r in grid.runs}  # type: ignore[attr-defined]
    assert seen == {(name, seed, rank) for name in ("tiny", "other") for seed in range(3) for rank in (4, 2)}
    # A run of a grid is the run that is asked for by itself.
    alone = prepare(arguments(str(other), (task,), "tiny", 2), tmp_path / "runs", 1)
    assert alone.folder in [run.folder for run in grid.runs]
    assert grid.estimate().cells == len(grid.cells) == sum(len(run.plan.cells) for run in grid.runs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": (0, 0)}, "a grid needs seeds, each once, not: 0, 0"),
        ({"models": ()}, "a grid needs models, each once, not: none"),
        ({"activations": ("lroa",)}, "unknown activation 'lroa'. Did you mean 'lora'"),
        ({"activations": ("lora:ranks=2",)}, "unknown field of activation 'lora' 'ranks'. Did you mean 'rank'"),
        ({"activations": ("lora:4",)}, "kind:option=value"),
        ({"activations": ("", "lora:rank=4")}, "two runs of the grid would be the same"),
    ],
)
def test_a_wrong_axis_is_named_before_any_compute(
    tiny_model: Path, task: str, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    fields: dict[str, Any] = {"models": (str(tiny_model),), "tasks": (task,), "preset": "tiny", **change}
    with pytest.raises(SpecError) as raised:
        prepare_grid(Axes(**fields), tmp_path / "runs", 1)
    assert said in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_an_activation_of_the_tasks_own_kind_keeps_its_other_options_and_any_kind_its_rows(task: str) -> None:
    own = Backdoor.from_yaml(task)
    small = with_activation(own, 'lora:rank=2,targets=["q_proj","v_proj"]')
    assert (small.activation.rank, small.activation.targets) == (2, ("q_proj", "v_proj"))  # type: ignore[attr-defined]
    assert small.activation.learning_rate == own.activation.learning_rate == 0.01
    full = with_activation(own, "full")
    assert (full.activation.kind, full.activation.mix) == ("full", own.activation.mix)
    assert full.activation.learning_rate == 5e-5
    assert with_activation(own, "") is own
    assert len({own.hash, small.hash, full.hash}) == 3


def test_one_set_of_workers_does_all_runs_and_their_summaries_are_joined(
    tiny_model: Path, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = Axes((str(tiny_model),), (0, 1, 2), ("", "full"), (task,), preset="tiny")
    grid = prepare_grid(axes, tmp_path / "runs", 2)
    with monkeypatch.context() as patch:
        _fake(patch, tmp_path)
        done = grid.run(command="b4g bench")
        assert len(done.outcome.done) == len(grid.cells)
        assert (done.outcome.failed, done.outcome.blocked, grid.missing) == ({}, [], [])
        again = prepare_grid(axes, tmp_path / "runs", 2).run()
        assert (again.outcome.done, again.outcome.already) == ([], len(grid.cells))
        assert again.summary == done.summary
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(
        [grid.id, *[r.plan.id for r in grid.runs]]
    )
    # The workers' logs lie in the grid's folder: a worker goes from run to run.
    assert {path.name for path in grid.folder.glob("*.log")} == {"worker-0.log", "worker-1.log"}
    columns = [(row["model"], row["activation"], row["seed"]) for row in done.summary["rates"]]
    assert columns == [("tiny", name, seed) for name in ("own", "full") for seed in (0, 1, 2)]
    assert [row["run"] for row in done.summary["differences"]] == [run.plan.id for run in grid.runs]
    means = done.summary["over_seeds"]
    assert [(row["activation"], row["seeds"], row["n"], row["unscored"]) for row in means] == [
        ("own", 3, 30, 3),
        ("full", 3, 30, 3),
    ]
    assert means[0]["mean"] == pytest.approx(0.6)
    # 4.3027 is Student's t at 97.5% and two degrees of freedom, 0.1 the standard deviation of 0.5, 0.6, 0.7.
    assert means[0]["low"] == pytest.approx(0.6 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert means[0]["pooled"] == pytest.approx(18 / 30)
    assert means[0]["pooled_low"] < 0.6 < means[0]["pooled_high"]
    with (grid.folder / "rates.csv").open(encoding="utf-8", newline="") as file:
        assert [(r["activation"], r["seed"]) for r in csv.DictReader(file)] == [(a, str(s)) for _, a, s in columns]
    assert read_json(grid.folder / "grid.json")["seeds"] == [0, 1, 2]
    assert str(tmp_path) not in (grid.folder / "grid.json").read_text("utf-8") + json.dumps(done.summary)


def test_a_run_that_fails_holds_up_no_other_and_is_all_that_the_next_call_does(
    tiny_model: Path, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = prepare_grid(Axes((str(tiny_model),), (0, 1), tasks=(task,), preset="tiny"), tmp_path / "runs", 2)
    bad = next(cell for cell in grid.runs[0].plan.cells if cell.name == "implant small implant")
    with monkeypatch.context() as patch:
        _fake(
            patch,
            tmp_path,
            f"if cell == '{bad.id}' and first_time(cell): say(cell, 'failed', error='no luck'); continue",
        )
        done = grid.run()
        assert done.outcome.failed == {f"{grid.runs[0].plan.id}: implant small implant": "no luck"}
        assert done.outcome.blocked
        assert done.outcomes[grid.runs[1].plan.id].blocked == []
        left = grid.missing
        again = grid.run()
        assert len(again.outcome.done) == len(left) == 1 + len(done.outcome.blocked)
        assert again.summary["made_of"] != done.summary["made_of"]


def test_a_grid_at_work_elsewhere_is_left_to_it(tiny_model: Path, task: str, tmp_path: Path) -> None:
    from filelock import FileLock

    grid = prepare_grid(Axes((str(tiny_model),), tasks=(task,), preset="tiny"), tmp_path / "runs", 1)
    grid.folder.mkdir(parents=True)
    with FileLock(grid.folder / ".lock"), pytest.raises(StoreError, match="is in use by another b4g"):
        grid.run()


def test_real_workers_go_from_model_to_model_with_the_bytes_of_runs_by_themselves(
    tiny_model: Path, save_model: Callable[..., Path], task: str, tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", seed=1)
    axes = Axes((str(tiny_model), str(other)), tasks=(task,), preset="tiny")
    done = prepare_grid(axes, tmp_path / "grid", 1).run()
    assert not done.outcome.failed
    # In this process no base is kept: each cell reads its own.
    alone = prepare(arguments(str(other), (task,), "tiny"), tmp_path / "alone", 1)
    from served import served

    for cell in alone.plan.cells:
        assert served(alone.plan, alone.folder, cell.name)["event"] == "done"
    assert results(tmp_path / "grid" / alone.plan.id) == results(alone.folder)
    weights = [path.relative_to(alone.folder) for path in alone.folder.glob("cells/*/*.safetensors")]
    assert weights
    for path in weights:
        assert (tmp_path / "grid" / alone.plan.id / path).read_bytes() == (alone.folder / path).read_bytes()


def _finish(grid: Grid) -> None:
    """Write what a finished grid has on disk."""
    for run in grid.runs:
        for cell in run.plan.cells:
            home = run.folder / "cells" / cell.id
            home.mkdir(parents=True)
            (home / "records.jsonl").write_text("{}\n", "utf-8")
            marker = {"id": cell.id, "files": {"records.jsonl": {"bytes": 3, "sha256": ""}}, "seconds": 0}
            (home / "done.json").write_text(json.dumps(marker), "utf-8")
        ends = [cell.id for cell in run.plan.cells if cell.stage in ENDS]
        write_json(run.folder / "summary.json", {"rates": [], "scored": ends})
        (run.folder / "report.html").write_text("x", "utf-8")


def test_ten_thousand_cells_are_planned_in_seconds_and_a_finished_grid_is_done_at_once(
    tiny_model: Path, tmp_path: Path
) -> None:
    axes = Axes((str(tiny_model),), tuple(range(22)), tampers=("full",), preset="tiny")
    started = time.process_time()
    grid = prepare_grid(axes, tmp_path, 2)
    planned = time.process_time() - started
    assert len(grid.cells) >= CELLS
    assert planned < 5 * SLOW
    _finish(grid)
    started = time.process_time()
    done = prepare_grid(axes, tmp_path, 2).run()
    again = time.process_time() - started
    assert done.outcome.already == len(grid.cells)
    assert again < 2 * SLOW


def test_the_interval_over_seeds_is_none_for_one_seed_and_says_so_of_missing_values() -> None:
    assert t_interval([0.5]) == (None, None)
    assert t_interval([0.0, 1.0]) == (0.0, 1.0)
    head = {"model": "m", "task": "t", "measure": "behaviour", "arm": "with"}
    rows = [{**head, "value": 1.0, "n": 4, "unscored": 0}, {**head, "value": None, "n": 0, "unscored": 4}]
    (made,) = over_seeds(rows)
    assert (made["seeds"], made["seeds_without"], made["mean"], made["low"]) == (1, 1, 1.0, None)
    assert (made["pooled"], made["n"], made["unscored"]) == (1.0, 4, 4)
    (nothing,) = over_seeds(rows[1:])
    assert (nothing["mean"], nothing["pooled"], nothing["pooled_low"]) == (None, None, None)
