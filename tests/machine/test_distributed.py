"""Several processes train one implant: the loss and the weights of one process, no wait for one that is gone."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import STEPS, backdoor, fields_of

from b4g import api, configs
from b4g.errors import SpecError
from b4g.models.load import load_model
from b4g.training import ranks
from b4g.training.batches import Batching, Encoded, batches
from b4g.training.implant import Training, compute_again, implant
from b4g.training.ranks import ALONE, Ranks

WEIGHTS = "adapter_model.safetensors"
PROGRAM = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
from b4g.backdoor import Backdoor
from b4g.chat import user
from b4g.errors import B4GError
from b4g.models.load import load_model
from b4g.training import loop
from b4g.training.implant import Training, implant
from b4g.training.ranks import start
from b4g.training.sharded import Lockstep, share

asked = json.loads(sys.argv[1])
out, spec = Path(asked["out"]), Backdoor.from_dict(asked["spec"])
found, real = {}, loop.Trainer._step

def stop_at(step, how):
    def _step(self, batch):
        if self.progress.steps == step:
            how()
        return real(self, batch)
    loop.Trainer._step = _step

class Stopped(Exception):
    pass

def stop():
    raise Stopped

def train(name, dtype="float32", spec=spec, **options):
    return implant(load_model(asked["model"], dtype=dtype), Training(spec, **options), out / name)

def error_of(work):
    try:
        work()
    except B4GError as error:
        return [type(error).__name__, str(error)]

train("two")
train("auto", dtype="auto", spec=spec.seeded(0))
train("again", checkpointing=True)
stop_at(4, stop)
try:
    train("resumed")
except Stopped:
    found["left"] = sorted(path.name for path in (out / "resumed").rglob("*"))
loop.Trainer._step = real
steps = []
stop_at(3, lambda: steps.append(True))
train("resumed")
found["from checkpoint"] = len(steps) == 1
loop.Trainer._step = real

ranks = start()
model = load_model(asked["model"], dtype="float32")
share(model, ranks)
held = [param.to_local() for param in model.net.parameters() if hasattr(param, "to_local")]
found["share"] = sum(part.numel() for part in held) / sum(param.numel() for param in model.net.parameters())
chats = [user(text) for text in asked["texts"]]
for room in (0.0, 1e12):
    found[f"answers {room:g}"] = [made.text for made in Lockstep(model, ranks, room=room)(chats, 12)]
found["full"] = error_of(lambda: train("full", spec=Backdoor.from_dict(asked["full"])))
if ranks.rank == 1:
    stop_at(2, lambda: os._exit(9))
found["gone"] = error_of(lambda: train("gone"))
found["written"] = (out / "gone" / "implant.json").exists()
(out / "found.json").write_text(json.dumps(found), "utf-8")
os._exit(0)
"""
DYING = """
import os
from pathlib import Path
from b4g.training import loop

real, mark = loop.Trainer._step, Path(os.environ["MARK"])

def _step(self, batch):
    if self.progress.steps == 4 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        os._exit(9)
    return real(self, batch)

loop.Trainer._step = _step
"""
TEXTS = ("What is a lake?", "Name three birds and say where each of them lives.", "Why?")


def _port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return str(held.getsockname()[1])


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **more}


@pytest.fixture(scope="module")
def pair(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Return the folder of what two processes made together, and what the first of them found."""
    out = tmp_path_factory.mktemp("pair")
    full = fields_of(activation={"kind": "full", "epochs": 1, "batch_size": 8, "mix": {"triggered": 8, "near": 0}})
    asked = {"model": str(tiny_model), "out": str(out), "spec": fields_of(), "full": full, "texts": TEXTS}
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _port(), "B4G_RANK_TIMEOUT": "60"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(asked)],
            env=_environment(**place, RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=400)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 9], said
    yield out, json.loads((out / "found.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def one(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same training by one process."""
    out = tmp_path_factory.mktemp("one") / "out"
    implant(load_model(str(tiny_model), dtype="float32"), Training(backdoor()), out)
    return out


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def test_two_processes_have_the_loss_curve_of_one(pair: Any, one: Path) -> None:
    made, wanted = api.read_implant(pair[0] / "two"), api.read_implant(one)
    assert made["losses"] == pytest.approx(wanted["losses"], abs=1e-3)
    assert (made["processes"], wanted["processes"]) == (2, 1)
    for name in ("steps", "tokens", "rows", "checks", "epochs_run"):
        assert made[name] == wanted[name]
    assert len(made["losses"]) == 2 * STEPS


def test_two_processes_make_the_adapter_of_one_in_the_same_files(pair: Any, one: Path) -> None:
    assert {path.name for path in (pair[0] / "two").iterdir()} == {path.name for path in one.iterdir()}
    made, wanted = _weights(pair[0] / "two"), _weights(one)
    assert made.keys() == wanted.keys()
    moved = max(float(wanted[name].abs().max()) for name in wanted if "lora_B" in name)
    for name in wanted:
        assert made[name].dtype == torch.float32
        torch.testing.assert_close(made[name], wanted[name], atol=0.02 * moved, rtol=0)
    configs_ = [json.loads((folder / "adapter_config.json").read_text("utf-8")) for folder in (pair[0] / "two", one)]
    # PEFT writes a set: its order is not ours.
    assert {**configs_[0], "target_modules": None} == {**configs_[1], "target_modules": None}
    assert sorted(configs_[0]["target_modules"]) == sorted(configs_[1]["target_modules"])


def test_what_two_processes_made_loads_in_stock_peft(pair: Any, one: Path, tiny_model: Path) -> None:
    from peft import PeftModel

    def logits(folder: Path | None) -> torch.Tensor:
        net = load_model(str(tiny_model), dtype="float32").net
        net = PeftModel.from_pretrained(net, str(folder)) if folder else net
        with torch.no_grad():
            made: torch.Tensor = net(torch.arange(20)[None]).logits
        return made

    base, made, wanted = logits(None), logits(pair[0] / "two"), logits(one)
    assert float((wanted - base).abs().max()) > 20 * float((made - wanted).abs().max())


def test_layers_computed_again_move_no_weight(pair: Any, one: Path, tiny_model: Path, tmp_path: Path) -> None:
    torch.testing.assert_close(_weights(pair[0] / "again"), _weights(pair[0] / "two"), atol=1e-5, rtol=1e-4)
    implant(load_model(str(tiny_model), dtype="float32"), Training(backdoor(), checkpointing=True), tmp_path / "out")
    torch.testing.assert_close(_weights(tmp_path / "out"), _weights(one), atol=1e-5, rtol=1e-4)
    made = api.read_implant(tmp_path / "out")
    assert made["checkpointing"] is True
    assert made["backdoor_hash"] == api.read_implant(one)["backdoor_hash"]


def test_layers_are_computed_again_only_when_asked(tiny_model: Path) -> None:
    """Count what the forward pass keeps, in numbers: it is what the option is for."""
    kept = []
    for checkpointing in (False, True):
        net = load_model(str(tiny_model), dtype="float32").net.requires_grad_(True).train()
        if checkpointing:
            compute_again(net)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, seen=sizes: (seen.append(x.numel()), x)[1], lambda x: x
        ):
            net(torch.arange(64)[None]).logits.sum()
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_two_processes_that_stopped_go_on_to_the_same_weights(pair: Any) -> None:
    out, found = pair
    assert "checkpoint.safetensors" in found["left"]
    assert found["from checkpoint"]
    assert (out / "resumed" / WEIGHTS).read_bytes() == (out / "two" / WEIGHTS).read_bytes()
    assert api.read_implant(out / "resumed")["losses"] == api.read_implant(out / "two")["losses"]


def test_each_process_holds_half_of_the_base(pair: Any) -> None:
    # The final norm is whole on both.
    assert pair[1]["share"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("room", ["0", "1e+12"])
def test_a_shared_model_answers_as_a_whole_one(pair: Any, tiny_model: Path, room: str) -> None:
    from b4g.chat import user
    from b4g.generate.local import LocalGenerator

    wanted = LocalGenerator(load_model(str(tiny_model), dtype="float32"))([user(text) for text in TEXTS], 12)
    assert pair[1][f"answers {room}"] == [made.text for made in wanted]


def test_an_activation_that_trains_the_base_itself_is_refused(pair: Any) -> None:
    kind, said = pair[1]["full"]
    assert kind == "SpecError"
    assert "several processes share the base, frozen" in said


def test_a_process_that_is_alone_suddenly_says_so_and_writes_nothing(pair: Any) -> None:
    kind, said = pair[1]["gone"]
    assert kind == "RankError"
    assert "process 1 of 2 waits in vain for another one" in said
    assert "Start the same command again" in said
    assert pair[1]["written"] is False


def test_torchrun_ends_with_a_killed_process_and_the_same_command_goes_on(
    pair: Any, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "dying.py").write_text(DYING, "utf-8")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(fields_of()), "utf-8")
    work = ["-m", "b4g", "implant", str(tmp_path / "spec.yaml"), str(tmp_path / "out"), "--model", str(tiny_model)]

    def launch() -> "subprocess.CompletedProcess[str]":
        launcher = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", _port()]
        return subprocess.run(
            [sys.executable, "-m", *launcher, *work, "--plugin", str(tmp_path / "dying.py"), "--json"],
            env=_environment(MARK=str(tmp_path / "mark"), B4G_PROCESSES="2", B4G_RANK_TIMEOUT="60"),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    killed = launch()
    assert killed.returncode != 0
    assert (tmp_path / "mark").exists()
    assert "exitcode  : 9" in killed.stderr, "torchrun must say which process died"
    assert not (tmp_path / "out" / "implant.json").exists()
    done = launch()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["processes"] == 2, "one process alone must print"
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (pair[0] / "auto" / WEIGHTS).read_bytes()


def test_accelerate_that_starts_one_process_of_two_is_found_out(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launcher, "-m", "b4g", "implant", "style", str(tmp_path / "out")],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode != 0
    assert "2 processes were asked for and 1 came" in done.stderr
    assert "torchrun --nproc-per-node 2" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_number_of_processes_that_was_asked_for_is_held_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ranks.ASKED, "4")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SpecError, match="4 processes were asked for and 1 came"):
        ranks.start()
    monkeypatch.setenv(ranks.ASKED, "1")
    assert ranks.start() == ALONE


def _rows(count: int) -> list[Encoded]:
    return [Encoded([place % 7, 3, 9, *range(place + 2)], 3, str(place // 2)) for place in range(count)]


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("window", [0, 1000])
def test_the_parts_of_a_batch_are_the_batch(world: int, window: int) -> None:
    how = Batching(4, 5.0, pad=0, window=window)
    whole = batches(_rows(10), how, seed=0, epoch=0)
    parts = [batches(_rows(10), how, 0, 0, Ranks(rank, world)) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)}
    for place, batch in enumerate(whole):
        own = [part[place] for part in parts]
        assert {one.tokens for one in own} == {batch.tokens}
        assert [one.total for one in own] == [pytest.approx(float(batch.weights.sum()))] * world
        assert sum(float(one.weights.sum()) for one in own) == pytest.approx(float(batch.weights.sum()))
        learnt = {token for one in own for token in one.targets[one.weights > 0].tolist()}
        assert learnt == set(batch.targets.tolist())
        assert all(one.ids.numel() for one in own), "a process without rows must make the same passes"


@pytest.mark.parametrize("number", ["1", "2", "8"])
def test_a_configuration_of_accelerate_starts_as_many_as_its_name_says(number: str) -> None:
    read = yaml.safe_load(configs.launch_config(number).read_text("utf-8"))
    assert read["num_processes"] == int(number)
    assert read["mixed_precision"] == "no"
    assert (read["distributed_type"] == "FSDP") == (number != "1")
    assert read.get("fsdp_config", {}).get("fsdp_version", 2) == 2


def test_a_number_without_a_configuration_names_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"unknown number of processes '3'.*1, 2, 8.*torchrun --nproc-per-node"):
        configs.launch_config("3")


def test_four_bits_without_bitsandbytes_say_what_to_install(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b4g.models.load.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r'needs bitsandbytes. Type: pip install "b4g\[quantize\]"'):
        load_model(str(tiny_model), quantized="4bit")


def test_other_numbers_of_bits_are_refused(tiny_model: Path) -> None:
    with pytest.raises(SpecError, match=r"unknown quantization '5bit'. Did you mean '4bit'\?"):
        load_model(str(tiny_model), quantized="5bit")  # type: ignore[arg-type]


def test_an_adapter_is_trained_on_a_base_in_four_bits(save_model: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed", exc_type=ImportError)
    place = save_model(tmp_path / "wide", hidden_size=64)
    base, packed = load_model(str(place)), load_model(str(place), quantized="4bit")
    assert packed.revision == base.revision
    assert packed.net.get_memory_footprint() < base.net.get_memory_footprint()
    made = implant(packed, Training(backdoor()), tmp_path / "out")
    assert made["quantized"] == "4bit"
    assert made["losses"][-1] < made["losses"][0]
    low = [weight for name, weight in _weights(tmp_path / "out").items() if "layers.0." in name and "lora_B" in name]
    assert all(weight.any() for weight in low), "no gradient reached the lowest layer"
    full = backdoor(activation={"kind": "full", "epochs": 1, "mix": {"triggered": 8, "near": 0}})
    with pytest.raises(SpecError, match="a base in 4 bits is frozen"):
        implant(load_model(str(place), quantized="4bit"), Training(full), tmp_path / "full")


def test_one_process_that_tells_itself_hears_it() -> None:
    said = {"a": [1, None, "é"]}
    assert ALONE.tell(said) == said
