"""The runner against workers that die, chatter and fail: scripts that speak its protocol and load nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
from fakes import fake_worker

from b4g.bench.api import prepare
from b4g.bench.drive import Driver, Outcome, Work
from b4g.bench.plan import Cell, Plan
from b4g.bench.run import ProcessPool
from b4g.bench.setup import arguments
from b4g.bench.store import Store, read_json


@pytest.fixture
def plan(tiny_model: Path) -> Plan:
    return prepare(arguments(str(tiny_model), ("style", "identity"), "tiny")).plan


def _run(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str = "pass", workers: int = 2
) -> tuple[Outcome, list[tuple[str, str]]]:
    script = fake_worker(folder.parent, behaviour)
    seen: list[tuple[str, str]] = []

    def watch(event: str, cell: Cell, said: dict[str, Any]) -> None:
        seen.append((event, cell.name))

    with monkeypatch.context() as patch:
        patch.setattr("b4g.bench.run.sys.executable", script)
        return Driver([Work(plan, {}, folder)], ProcessPool(workers, folder), watch).run()[0], seen


def _id(plan: Plan, name: str) -> str:
    return next(cell.id for cell in plan.cells if cell.name == name)


@pytest.mark.parametrize("workers", [1, 3, 30])
def test_any_number_of_workers_does_each_cell_once(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    outcome, seen = _run(plan, tmp_path / "run", monkeypatch, workers=workers)
    names = sorted(cell.name for cell in plan.cells)
    assert sorted(outcome.done) == names
    assert sorted(name for event, name in seen if event == "start") == names
    assert (outcome.already, outcome.failed, outcome.blocked) == (0, {}, [])
    again, seen = _run(plan, tmp_path / "run", monkeypatch)
    assert (again.already, again.done, seen) == (len(names), [], [])


def test_no_cell_starts_before_those_it_needs_are_done(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen = _run(plan, tmp_path / "run", monkeypatch, workers=4)
    names = {cell.id: cell.name for cell in plan.cells}
    for cell in plan.cells:
        started = seen.index(("start", cell.name))
        assert all(seen.index(("done", names[need])) < started for need in cell.needs)


def test_a_cell_whose_worker_is_killed_is_tried_again(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = _id(plan, "implant style implant")
    die = f"if cell == '{killed}' and first_time(cell): os.kill(os.getpid(), signal.SIGKILL)"
    outcome, seen = _run(plan, tmp_path / "run", monkeypatch, die)
    assert sorted(outcome.done) == sorted(cell.name for cell in plan.cells)
    assert outcome.failed == {}
    assert seen.count(("start", "implant style implant")) == 2


@pytest.mark.parametrize(
    ("death", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"died 2 times \(exit -9\); out of memory is the usual cause"),
        ("sys.exit(3)", r"died 2 times \(exit 3\); see the end of .*worker-\d\.log"),
    ],
)
def test_a_cell_that_kills_every_worker_is_given_up_and_the_rest_goes_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str, why: str
) -> None:
    bad = _id(plan, "implant style implant")
    outcome, _ = _run(plan, tmp_path / "run", monkeypatch, f"if cell == '{bad}': {death}")
    assert list(outcome.failed) == ["implant style implant"]
    assert re.search(why, outcome.failed["implant style implant"])
    assert (
        read_json(Store(tmp_path / "run").cell(bad) / "failed.json")["error"] == outcome.failed["implant style implant"]
    )
    # Its own measures, and the control that runs as long as it did.
    assert sorted(outcome.blocked) == sorted(
        [
            "implant style control",
            *[f"{stage} style {subject}" for stage in ("generate", "score") for subject in ("control", "implant")],
            "utility style all",
        ]
    )
    assert len(outcome.done) + len(outcome.blocked) + 1 == len(plan.cells)


def test_a_cell_that_fails_by_itself_is_not_tried_again_in_the_same_run(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = _id(plan, "generate identity control")
    fail = f"if cell == '{bad}' and first_time(cell): say(cell, 'failed', error='no luck'); continue"
    outcome, seen = _run(plan, tmp_path / "run", monkeypatch, fail)
    assert outcome.failed == {"generate identity control": "no luck"}
    assert outcome.blocked == ["score identity control"]
    assert seen.count(("start", "generate identity control")) == 1
    again, _ = _run(plan, tmp_path / "run", monkeypatch, fail)
    assert sorted(again.done) == ["generate identity control", "score identity control"]
    assert again.already == len(plan.cells) - 2


def test_chatter_between_the_events_is_passed_over(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chatter = (
        "print('Loading...'); print('{half'); say('another', 'done'); say(cell, 'progress', what='x', done=1, total=2)"
    )
    outcome, seen = _run(plan, tmp_path / "run", monkeypatch, chatter)
    assert len(outcome.done) == len(plan.cells)
    assert len([event for event, _ in seen if event == "progress"]) == len(plan.cells)


def test_workers_that_never_start_fail_every_cell_and_do_not_hang(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, _ = _run(plan, tmp_path / "run", monkeypatch, "sys.exit('no plan')")
    roots = [cell.name for cell in plan.cells if not cell.needs]
    assert sorted(outcome.failed) == sorted(roots)
    assert outcome.done == []
    assert "no plan" in (tmp_path / "run" / "worker-0.log").read_text("utf-8")


def test_an_interrupt_stops_the_workers_and_frees_the_folder(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Any] = []

    def interrupt(event: str, cell: Cell, said: dict[str, Any]) -> None:
        if event == "progress":
            held.extend(pool.workers.values())
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        wait = "say(cell, 'progress', what='x', done=1, total=2); import time; time.sleep(600)"
        patch.setattr("b4g.bench.run.sys.executable", fake_worker(tmp_path, wait))
        pool = ProcessPool(2, tmp_path / "run")
        with pytest.raises(KeyboardInterrupt):
            Driver([Work(plan, {}, tmp_path / "run")], pool, interrupt).run()
    assert [process.poll() for process in held] == [-9, -9]
    assert len(_run(plan, tmp_path / "run", monkeypatch)[0].done) == len(plan.cells)
