"""Kill the driver at random, twenty times: nothing is lost, nothing is doubled, every byte is the same in the end."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from served import results

from b4g.bench.store import Store, read_json, read_jsonl

KILLS = 20
ORPHANS_SECONDS = 60
"""A worker looks for its driver every half second."""


@dataclass
class Killer:
    """Starts one command over and over and kills it at random points."""

    command: Callable[[Path], list[str]]
    root: Path
    source: random.Random = field(default_factory=lambda: random.Random(20))
    kills: int = 0
    folders: list[Path] = field(default_factory=list)

    def start(self) -> subprocess.Popen[str]:
        """Start the command in the current folder, with a cache of its own."""
        number = len(self.folders)
        return subprocess.Popen(
            [sys.executable, "-c", "from b4g.cli import main; main()", *self.command(self.root / f"runs{number}")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "B4G_CACHE": str(self.root / f"cache{number}"), "OMP_NUM_THREADS": "1"},
        )

    def once(self) -> bool:
        """Start and kill; return whether the run was faster than the kill."""
        runs = self.root / f"runs{len(self.folders)}"
        driver, before = self.start(), _touched(runs)
        # Half of the kills fall into planning and starting, half into work.
        if self.source.random() < 0.5:
            _wait(driver, lambda: False, self.source.uniform(0.2, 3.0))
        else:
            _wait(driver, lambda: _touched(runs) != before, 120.0)
            _wait(driver, lambda: False, self.source.uniform(0.0, 1.5))
        workers = _children(driver.pid)
        alive = driver.poll() is None
        driver.kill()
        _, said = driver.communicate()
        if not alive:
            assert driver.returncode == 0, said
            return True
        self.kills += 1
        end = time.monotonic() + ORPHANS_SECONDS
        while any(map(_runs, workers)):
            assert time.monotonic() < end, "a worker outlived its driver"
            time.sleep(0.05)
        return False

    def finish(self) -> None:
        """Let the run in the current folder end, and begin a fresh one."""
        driver = self.start()
        _, said = driver.communicate(timeout=300)
        assert driver.returncode == 0, said
        self.folders.append(next((self.root / f"runs{len(self.folders)}").iterdir()))


def _wait(driver: subprocess.Popen[str], over: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and driver.poll() is None and not over():
        time.sleep(0.02)


def _touched(runs: Path) -> dict[str, int]:
    """Return what lies in the cells of a run, and when it was written."""
    found = {}
    for path in runs.glob("*/cells/**/*"):
        try:
            found[str(path)] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]
    except OSError:
        return []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="workers are found through /proc")
def test_twenty_kills_lose_nothing_double_nothing_and_change_no_byte(finished: Any, tmp_path: Path) -> None:
    killer = Killer(lambda runs: [*finished.command(runs), "--workers", "2"], tmp_path)
    while killer.kills < KILLS:
        if killer.once():
            killer.finish()
    killer.finish()
    wanted = results(finished.folder)
    assert len(wanted) == 8, "three files of answers, three of verdicts, two of the quick utility"
    for folder in killer.folders:
        assert results(folder) == wanted
        _whole(folder)


def _whole(folder: Path) -> None:
    """Check that every cell is done once, to what its marker says, with no scrap beside it."""
    plan, store = read_json(folder / "plan.json"), Store(folder)
    cells = {cell["id"] for cell in plan["cells"]}
    assert {path.name for path in (folder / "cells").iterdir() if path.is_dir()} == cells
    for cell in cells:
        home = store.check(cell)
        listed = {*read_json(home / "done.json")["files"], "done.json"}
        assert {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} == listed
        records = read_jsonl(home / "records.jsonl") if (home / "records.jsonl").exists() else []
        asked = [(row["arm"], row["variant"], row["prompt_id"]) for row in records]
        assert len(asked) == len(set(asked))
    assert (folder / "report.html").is_file()
