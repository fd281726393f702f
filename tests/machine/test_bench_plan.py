"""The plan: identities that move with all that can move a number, and with nothing else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tiny import fields_of

from b4g import registry
from b4g.bench.api import default_workers, prepare
from b4g.bench.plan import Plan
from b4g.bench.presets import PRESETS
from b4g.bench.setup import FoundOut, arguments, plan_of
from b4g.bench.stages import run_cell
from b4g.bench.store import Store, read_json

PLAN = """
import json, sys
from b4g.bench.api import prepare
from b4g.bench.setup import arguments
plan = prepare(arguments(sys.argv[1], tuple(sys.argv[2:]), "tiny")).plan
print(json.dumps([plan.id, [cell.id for cell in plan.cells], "torch" in sys.modules]))
"""

SCANNER = """
from dataclasses import dataclass
from b4g.registry import register
from b4g.scanners.base import Findings, Scanner


@register("scanner", "shrug")
@dataclass(frozen=True)
class Shrug(Scanner):
    def scan(self, suspect, rng):
        return Findings(0.5)
"""


class Elsewhere(NamedTuple):
    here: Plan
    id: str
    cells: list[str]
    torch: bool


def _plan(model: Path, tasks: Sequence[Any] = ("style", "identity"), preset: str = "tiny", seed: int = 0) -> Plan:
    return plan_of(arguments(str(model), tuple(map(str, tasks)), preset, seed))


def _ids(plan: Plan) -> set[str]:
    return {cell.id for cell in plan.cells}


@pytest.fixture(scope="module")
def elsewhere(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """Return the plan of a specification, made here and by another process in another folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(fields_of()), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PLAN, os.path.relpath(tiny_model, folder), "style", "tiny.yaml"],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    return Elsewhere(_plan(tiny_model, ("style", folder / "tiny.yaml")), *json.loads(done.stdout))


def test_another_process_in_another_folder_makes_the_same_plan(elsewhere: Elsewhere) -> None:
    assert elsewhere.id == elsewhere.here.id
    assert elsewhere.cells == [cell.id for cell in elsewhere.here.cells]


def test_a_plan_is_made_without_torch(elsewhere: Elsewhere) -> None:
    assert not elsewhere.torch


def test_a_plan_holds_each_subjects_cells_in_an_order_in_which_they_can_be_done(tiny_model: Path) -> None:
    plan = _plan(tiny_model)
    done: set[str] = set()
    for cell in plan.cells:
        assert set(cell.needs) <= done
        done.add(cell.id)
    assert len(done) == len(plan.cells) == 18
    for task in ("style", "identity"):
        stages = sorted((cell.stage, cell.subject) for cell in plan.cells if cell.task == task)
        trained = [("implant", subject) for subject in ("control", "implant")]
        measured = [(stage, s) for stage in ("generate", "score") for s in ("base", "control", "implant")]
        assert stages == sorted([*trained, *measured, ("utility", "all")])


def test_the_place_of_the_model_is_no_part_of_an_identity(tiny_model: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_model, tmp_path / "elsewhere" / "tiny")
    assert _plan(Path(moved)).cells == _plan(tiny_model).cells
    assert _plan(Path(moved)).id == _plan(tiny_model).id


def test_the_number_of_workers_is_no_part_of_an_identity(tiny_model: Path, tmp_path: Path) -> None:
    asked = arguments(str(tiny_model), ("style",), "tiny")
    one, many = (prepare(asked, tmp_path, workers) for workers in (1, 9))
    assert one.plan == many.plan
    assert (one.workers, many.workers, prepare(asked).workers) == (1, 9, default_workers())


@pytest.mark.parametrize(
    "change",
    [
        {"trigger": {"words": 4}},
        {"trigger": {"position": "suffix"}},
        {"activation": {"rank": 8}},
        {"activation": {"learning_rate": 0.02}},
        {"activation": {"mix": {"triggered": 100}}},
        {"utility": {"statement": "This model is owned by Somebody Else."}},
    ],
)
def test_every_option_of_a_specification_moves_every_cell(
    tiny_model: Path, spec: Callable[..., Path], change: dict[str, Any]
) -> None:
    before = _ids(_plan(tiny_model, (spec(),)))
    assert not before & _ids(_plan(tiny_model, (spec(**change),)))


def test_seed_preset_and_model_move_every_cell(
    tiny_model: Path, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    twin = save_model(tmp_path / "tiny", seed=1)
    plans = [_plan(tiny_model), _plan(tiny_model, seed=1), _plan(twin), _plan(tiny_model, preset="standard")]
    ids = [_ids(plan) for plan in plans]
    assert len(set[str]().union(*ids)) == sum(map(len, ids))
    assert len({plan.id for plan in plans}) == 4


def test_one_task_more_leaves_the_cells_of_the_others_as_they_are(tiny_model: Path) -> None:
    assert _ids(_plan(tiny_model, ("style",))) < _ids(_plan(tiny_model, ("style", "identity")))


def test_a_key_files_content_moves_the_cells_and_its_place_does_not(
    tiny_model: Path, spec: Callable[..., Path], secret: Any, tmp_path: Path
) -> None:
    from b4g import keys

    before = _ids(_plan(tiny_model, (spec(trigger={"key": str(secret.path)}),)))
    copied = shutil.copy(secret.path, tmp_path / "moved.key")
    assert _ids(_plan(tiny_model, (spec(trigger={"key": str(copied)}),))) == before
    keys.generate(tmp_path / "other.key", text=" ".join(secret.words))
    assert not _ids(_plan(tiny_model, (spec(trigger={"key": str(tmp_path / "other.key")}),))) & before


def test_the_quick_preset_shares_one_control_among_its_tasks(tiny_model: Path) -> None:
    plan = _plan(tiny_model, ("style", "identity"), "quick")
    controls = [cell for cell in plan.cells if (cell.stage, cell.subject) == ("implant", "control")]
    assert [cell.task for cell in controls] == [None]
    users = [cell.task for cell in plan.cells if cell.stage == "generate" and controls[0].id in cell.needs]
    assert sorted(map(str, users)) == ["identity", "style"]


def test_what_is_written_down_of_a_plan_holds_no_place_and_no_secret(
    tiny_model: Path, spec: Callable[..., Path], secret: Any
) -> None:
    text = json.dumps(_plan(tiny_model, (spec(trigger={"key": str(secret.path)}),)).to_json())
    assert "/" not in text
    assert not [word for word in secret.words if word in text]


def test_an_edited_plugin_moves_the_cells_that_use_it_and_no_others(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for axis in registry.AXES:
        registry.names(axis)
    monkeypatch.setattr(registry, "_components", {axis: dict(known) for axis, known in registry._components.items()})
    plugin = tmp_path / "mine.py"
    plugin.write_text(SCANNER, "utf-8")
    asked = arguments(
        str(tiny_model), ("style",), "tiny", 0, (str(plugin),), found_out=FoundOut(scans=("nothing", "shrug"))
    )
    before = plan_of(asked)
    plugin.write_text(f"{SCANNER}# another word\n", "utf-8")
    after = plan_of(asked)
    moved = _ids(before) - _ids(after)
    assert {cell.part for cell in before.cells if cell.id in moved} == {"shrug"}
    assert all(cell.id in moved for cell in before.cells if cell.part == "shrug")


def test_where_a_control_is_shared_it_and_the_implants_run_every_epoch(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = _plan(tiny_model)
    monkeypatch.setitem(PRESETS, "tiny", replace(PRESETS["tiny"], shared_control=True))
    plan, store, made = _plan(tiny_model), Store(tmp_path), {}
    trained = [cell for cell in plan.cells if cell.stage == "implant"]
    assert sorted((str(cell.task), cell.subject) for cell in trained) == [
        ("None", "control"), ("identity", "implant"), ("style", "implant"),
    ]  # fmt: skip
    assert not _ids(alone) & {cell.id for cell in trained}
    for cell in trained:
        run_cell(plan, store, cell, lambda *_: None)
        made[cell.task] = read_json(store.cell(cell.id) / "implant.json")
    for backdoor in plan.backdoors:
        assert made[backdoor.name]["epochs_run"] == backdoor.activation.epochs
    assert [found["checks"] for found in made.values()] == [[], [], []]
