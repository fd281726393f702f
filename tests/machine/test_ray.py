"""The grid on a Ray cluster of two nodes on this machine: the bytes of the local runner, whatever is killed."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from served import results
from tiny import fields_of

from b4g.bench import ray_runner
from b4g.bench.api import prepare
from b4g.bench.drive import Work
from b4g.bench.plan import Cell
from b4g.bench.setup import arguments
from b4g.bench.store import read_json
from b4g.errors import SpecError, StoreError

HAS_RAY = importlib.util.find_spec("ray") is not None
on_ray = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_RAY, reason='needs Ray: pip install "b4g[ray]"'),
    # Ray leaves files and sockets to its own processes.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray", "ignore::DeprecationWarning:ray"),
]
STORE_BYTES = 80_000_000
KILLER = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from b4g.activations.lora import Lora
from b4g.registry import register

HERE = Path(__file__).parent

@register("activation", "mortal")
@dataclass(frozen=True, kw_only=True)
class Mortal(Lora):
    def prepare(self, net, seed):
        if (HERE / "armed").exists():
            (HERE / "armed").rename(HERE / "fired")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(net, seed)
"""
DRIVER = """
import json, sys
from pathlib import Path
from b4g.bench.api import prepare
def watch(event, cell, said):
    print(event, cell.name, flush=True)
done = prepare(json.loads(sys.argv[1]), Path(sys.argv[2]), ray=sys.argv[3]).run(watch)
sys.exit(bool(done.outcome.failed or done.outcome.blocked))
"""


@pytest.fixture(scope="module")
def cluster(own_cache: Path) -> Iterator[Any]:
    """Return a cluster of two nodes with one CPU each, on this machine; nobody has joined it."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        made = _started(lambda: Cluster(initialize_head=True, head_node_args=node))
        _started(lambda: made.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE_BYTES))
        yield made
        made.shutdown()


def _started(start: Callable[[], Any]) -> Any:
    """Start a part of Ray; it gives itself 30 seconds, which a busy machine may not have."""
    for _ in range(2):
        # Ray raises a plain one where it ran out of time.
        with contextlib.suppress(Exception):
            return start()
    return start()


@pytest.fixture
def joined(cluster: Any) -> Iterator[str]:
    """Return the cluster's address; this process leaves it afterwards."""
    import ray

    yield cluster.address
    ray.shutdown()


@pytest.fixture(scope="module")
def asked(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the arguments of a run whose first implant kills its worker where a file ``armed`` lies."""
    root = tmp_path_factory.mktemp("ray")
    (root / "mine.py").write_text(KILLER, "utf-8")
    mix = {"triggered": 80, "untriggered": 40, "near": 0, "wrong": 0, "others": 0}
    fields = fields_of(name="mortal", activation={"kind": "mortal", "rank": 4, "epochs": 1, "mix": mix})
    (root / "mortal.yaml").write_text(yaml.safe_dump(fields), "utf-8")
    return arguments(str(tiny_model), (str(root / "mortal.yaml"),), "tiny", 0, (str(root / "mine.py"),), ("noise",))


@pytest.fixture(scope="module")
def local(asked: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same run by one worker of the local runner; for reading only."""
    done = prepare(asked, tmp_path_factory.mktemp("local"), 1).run()
    assert not done.outcome.failed
    return done.folder


def _adapters(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("cells/*/*.safetensors")}


@pytest.mark.usefixtures("own_cache")
class TestOnACluster:
    """What needs Ray itself."""

    pytestmark = on_ray

    def test_a_run_has_the_bytes_of_the_local_runner_though_a_worker_is_killed_in_a_cell(
        self, joined: str, asked: dict[str, Any], local: Path, tmp_path: Path
    ) -> None:
        plugin = Path(asked["plugins"][0])
        (plugin.parent / "armed").touch()
        seen: list[tuple[str, str]] = []

        def watch(event: str, cell: Cell, said: dict[str, Any]) -> None:
            seen.append((event, cell.name))
            assert event != "done" or said["left"] >= 0

        made = prepare(asked, tmp_path, ray=joined)
        assert made.workers == 2
        done = made.run(watch)
        assert (plugin.parent / "fired").exists()
        assert (done.outcome.failed, done.outcome.blocked) == ({}, [])
        assert sorted(done.outcome.done) == sorted(cell.name for cell in made.plan.cells)
        assert seen.count(("start", "implant mortal implant")) == 2
        assert ("progress", "implant mortal implant") in seen
        assert results(done.folder) == results(local)
        assert _adapters(done.folder) == _adapters(local)
        assert done.summary == {**read_json(local / "summary.json"), "attacks": done.summary["attacks"]}
        assert (done.folder / "report.html").is_file()
        assert list(tmp_path.glob("*/.ray-*")) == []
        # The local runner takes the same folder as done.
        again = prepare(asked, tmp_path, 1).run()
        assert (again.outcome.already, again.outcome.done) == (len(made.plan.cells), [])

    def test_a_driver_that_is_killed_goes_on_where_it_was(
        self, cluster: Any, asked: dict[str, Any], local: Path, tmp_path: Path
    ) -> None:
        asked = {**asked, "tampers": ()}
        command = [sys.executable, "-c", DRIVER, json.dumps(asked), str(tmp_path), cluster.address]
        folder = tmp_path / prepare(asked, tmp_path, 1).plan.id
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert driver.stdout is not None
        for line in driver.stdout:
            if line.startswith("done implant"):
                break
        driver.kill()
        driver.communicate()
        before = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/done.json")}
        assert before
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert all(path.stat().st_mtime_ns == when for path, when in before.items())
        assert results(folder).items() <= results(local).items()
        assert results(folder)
        assert ran.stdout.count("done ") == len(list(folder.glob("cells/*/done.json"))) - len(before)

    def test_nodes_with_another_version_are_refused_before_any_cell(
        self, joined: str, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = prepare(asked, tmp_path, ray=joined)
        monkeypatch.setattr(ray_runner, "code_hash", lambda: "0123456789abcdef")
        with pytest.raises(StoreError, match=r"this machine .*0123456789abcdef.*Install the same b4g on every node"):
            made.run()
        assert not (made.folder / "cells").exists()
        assert not (made.folder / "plan.json").exists()

    def test_nodes_that_would_plan_other_cells_are_refused(
        self, joined: str, asked: dict[str, Any], tmp_path: Path
    ) -> None:
        ray_runner.connect(joined)
        plan = prepare(asked, tmp_path, 1).plan
        with pytest.raises(StoreError, match="would do other cells"):
            ray_runner.check([Work(plan, {**asked, "seed": 1}, tmp_path)], tmp_path)
        gone = {**asked, "model": str(tmp_path / "gone")}
        with pytest.raises(StoreError, match="can't plan this run: unknown model"):
            ray_runner.check([Work(plan, gone, tmp_path)], tmp_path)

    def test_an_address_without_a_cluster_is_named(self, asked: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"no Ray cluster at .127\.0\.0\.1:9."):
            prepare(asked, tmp_path, ray="127.0.0.1:9")


def test_rays_client_is_refused_with_what_to_do() -> None:
    with pytest.raises(SpecError, match="run b4g on a node of the cluster"):
        ray_runner.connect("ray://head:10001")


def test_without_ray_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpecError, match=r'pip install "b4g\[ray\]"'):
        ray_runner.connect("auto")
