"""Real workers: a plug-in that fails or kills them, and Ctrl-C."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from served import missing, results
from tiny import fields_of

from b4g.bench.api import prepare
from b4g.bench.setup import arguments
from b4g.bench.store import read_json

PLUGIN = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from b4g.activations.lora import Lora
from b4g.registry import register

HERE = Path(__file__).parent

@register("activation", "flaky")
@dataclass(frozen=True, kw_only=True)
class Flaky(Lora):
    def prepare(self, net, seed):
        if not (HERE / "killed").exists():
            (HERE / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(net, seed)

@register("activation", "broken")
@dataclass(frozen=True, kw_only=True)
class Broken(Lora):
    def prepare(self, net, seed):
        if not (HERE / "mended").exists():
            raise AttributeError("a part is missing")
        return super().prepare(net, seed)
"""
BLOCKED = [
    "implant broken control",
    *[f"{s} broken {w}" for s in ("generate", "score") for w in ("control", "implant")],
    "utility broken all",
]


@pytest.fixture
def arguments_of(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Return a command that runs a flaky and a broken activation of a plug-in."""
    (tmp_path / "mine.py").write_text(PLUGIN, "utf-8")
    small = {"epochs": 1, "mix": {"triggered": 80, "untriggered": 0, "near": 0, "wrong": 0, "others": 0}}
    tasks = []
    for name in ("broken", "flaky"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(fields_of(name=name, activation={"kind": name, **small})), "utf-8")
        tasks += ["--task", str(path)]
    places = ["--model", str(tiny_model), "--runs", str(tmp_path / "runs"), "--plugin", str(tmp_path / "mine.py")]
    return ["bench", "--preset", "tiny", "--workers", "2", *tasks, *places]


def test_one_cell_fails_and_one_worker_is_killed_and_all_else_is_done_and_said(
    arguments_of: list[str], b4g: Callable[..., Any], tmp_path: Path
) -> None:
    ran = b4g(*arguments_of)
    (folder,) = (tmp_path / "runs").iterdir()
    assert ran.code == 1
    assert "failed: implant broken implant: AttributeError: a part is missing" in ran.err
    for name in BLOCKED:
        assert f"not done, it needs a failed cell: {name}" in ran.err
    assert "Traceback" not in ran.err
    assert (tmp_path / "killed").exists()
    plan = read_json(folder / "plan.json")
    state = {cell["name"]: (folder / "cells" / cell["id"] / "done.json").is_file() for cell in plan["cells"]}
    assert sorted(name for name, done in state.items() if not done) == sorted([*BLOCKED, "implant broken implant"])
    report = (folder / "report.html").read_text("utf-8")
    assert "implant broken implant" in report
    assert "a part is missing" in report
    assert "a part is missing" in (folder / "worker-0.log").read_text("utf-8") + (folder / "worker-1.log").read_text(
        "utf-8"
    )

    (tmp_path / "mended").touch()
    again = b4g(*arguments_of)
    assert again.code == 0
    assert "18 cells, 11 done, 7 to do" in again.err
    assert "a part is missing" not in (folder / "report.html").read_text("utf-8")
    subjects = {(row["task"], row["subject"]) for row in read_json(folder / "summary.json")["rates"]}
    assert subjects == {(task, s) for task in ("broken", "flaky") for s in ("base", "control", "implant")}


# A suite that was started in the background inherits that SIGINT is ignored; a person at a terminal does not.
HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def test_ctrl_c_stops_driver_and_workers_and_the_same_command_goes_on(finished: Any, tmp_path: Path) -> None:
    program = f"{HEARS_CTRL_C}; from b4g.cli import main; main()"
    command = [sys.executable, "-c", program, *finished.command(tmp_path), "--workers", "1"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    plan = prepare(arguments(str(finished.model), (str(finished.spec),), "tiny"), tmp_path).plan
    folder = tmp_path / plan.id
    _wait_for(lambda: folder.is_dir() and len(missing(plan, folder)) < len(plan.cells))
    workers = _children(driver.pid)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert said.strip().splitlines()[-1] == "b4g: stopped. Run the same command again to go on."
    assert "Traceback" not in said
    assert len(workers) == 1
    _wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    left = missing(plan, folder)
    assert left

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(plan.cells) - len(left)} done, {len(left)} to do" in done.stderr
    assert results(folder) == results(finished.folder)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


def _wait_for(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
