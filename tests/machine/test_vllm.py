"""vLLM out of process, with a stand-in for vLLM itself: what is sent, what comes back, and every way it can go wrong."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
from greedy import NEW, chats
from tiny import backdoor

from b4g import api, served
from b4g.chat import user
from b4g.errors import ModelError, SpecError
from b4g.generate.engines import engine_of
from b4g.generate.local import LocalGenerator
from b4g.generate.vllm import Put, Vllm, VllmEngine
from b4g.models.load import load_implant, load_model

Make = Callable[..., VllmEngine]


@pytest.fixture(scope="module")
def implants(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of two implants of the tiny model, of ranks 4 and 12."""
    root = tmp_path_factory.mktemp("two")
    for name, rank in (("one", 4), ("two", 12)):
        made = backdoor(trigger={"key": f"public:{name}"}, activation={"rank": rank, "epochs": 1, "learning_rate": 0.1})
        api.implant(made, root / name, str(tiny_model))
    return {name: root / name for name in ("one", "two")}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in on the worker's path and return the file of its calls."""
    monkeypatch.setenv("PYTHONPATH", str(fake_vllm.write(tmp_path / "site")))
    monkeypatch.setenv("FAKE_VLLM_LOG", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.fixture
def make(tiny_model: Path, implants: dict[str, Path], log: Path) -> Any:
    """Return ``make(**options)``: the engine with both implants; its processes are ended afterwards."""
    made: list[VllmEngine] = []

    def build(adapters: dict[str, Path] | None = None, **changes: Any) -> VllmEngine:
        how = Vllm(**{"python": fake_vllm.PYTHON, "dtype": "float32", "start_seconds": 120, **changes})
        made.append(VllmEngine(str(tiny_model), implants if adapters is None else adapters, how))
        return made[-1]

    yield build
    for one in made:
        one.close()


def calls(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def test_base_and_adapters_in_one_batch_answer_as_the_engine_of_this_process(
    make: Make, implants: dict[str, Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_REAL", "1")
    asked = chats(5)
    wanted = LocalGenerator(load_model(str(tiny_model), dtype="float32"))(asked, NEW)
    for folder in implants.values():
        wanted += LocalGenerator(load_implant(str(tiny_model), folder, "float32"))(asked, NEW)
    assert len({made.text for made in wanted}) > 10, "the implants hardly differ: the test would prove nothing"
    found = make().batch([Put(who, chat) for who in ("base", "one", "two") for chat in asked], NEW)
    assert found == wanted


def test_prompts_are_our_renderers_ids_and_all_subjects_go_in_one_call(
    make: Make, implants: dict[str, Path], tiny_model: Path, log: Path
) -> None:
    asked, engine = chats(3), make()
    put = [Put(who, chat) for chat in asked for who in ("two", "base", "one")]
    seen: list[tuple[int, int]] = []
    made = engine.batch(put, NEW, lambda done, total: seen.append((done, total)))
    model = load_model(str(tiny_model))
    load, call = calls(log)
    assert call["prompts"] == [model.renderer.prompt_ids(one.chat) for one in put]
    assert call["adapters"] == [None if one.who == "base" else str(implants[one.who]) for one in put]
    assert set(call["stop"]) == LocalGenerator(model)._end_ids()
    assert load["load"]["rank"] == 16, "the larger implant's rank of 12 needs room for 16"
    assert (load["load"]["remote"], load["load"]["config"], load["load"]["dtype"]) == (False, "vllm", "float32")
    assert seen == [(9, 9)]
    assert {one.ended for one in made} == {True, False}
    assert all((one.tokens == 3) is one.ended and (one.tokens == NEW) is not one.ended for one in made)


def test_generators_of_one_engine_share_a_process_and_have_identities_of_their_own(make: Make, log: Path) -> None:
    engine = make()
    subjects = [engine.generator(who) for who in ("base", "one", "two")]
    answers = [one(chats(2), NEW) for one in subjects]
    assert [next(iter(call)) for call in calls(log)] == ["load", "prompts", "prompts", "prompts"]
    assert answers[0] != answers[1] != answers[2]
    assert len({one.identity for one in subjects}) == 3
    assert {engine_of(one.identity) for one in subjects} == {"vllm"}
    assert {one.renderer_hash for one in subjects} == {engine.renderer.hash}
    with pytest.raises(ModelError, match=r"unknown subject 'oen'\. Did you mean 'one'"):
        engine.generator("oen")


def test_no_chat_starts_no_process(make: Make, log: Path) -> None:
    assert make().batch([], NEW) == []
    assert not log.exists()


def test_a_killed_worker_is_told_and_the_next_question_starts_another(
    make: Make, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_FAULT", "killed")
    generator = make().generator("one")
    with pytest.raises(ModelError, match="the vLLM process ended by signal SIGKILL"):
        generator(chats(2), NEW)
    assert len(generator(chats(2), NEW)) == 2
    assert sum("load" in call for call in calls(log)) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("left", "ended with status 3; its last line: EngineCore died: no more memory"),
        ("raises", "vLLM gave up: ValueError: an engine error$"),
        ("load", "vLLM gave up: RuntimeError: CUDA out of memory$"),
        ("hangs", "vLLM said nothing for 2 seconds and was stopped"),
        ("drop", "vLLM answered 2 of 3 prompts"),
        ("short", "wrote 0 of 12"),
        ("early", r"wrote 1 of 12 \(reason: abort\)"),
        ("cut", r"vLLM read \d+ of a prompt's \d+ tokens"),
    ],
)
def test_what_goes_wrong_in_the_worker_is_one_line(
    make: Make, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setenv("FAKE_VLLM_FAULT", fault)
    # The first answer of these three does not end by itself.
    with pytest.raises(ModelError, match=message):
        make(answer_seconds=2 if fault == "hangs" else 60).generator("base")(chats(3), NEW)


def test_leaving_the_engine_ends_its_process(make: Make, log: Path) -> None:
    with make() as engine:
        engine.generator("base")(chats(1), NEW)
        process = int(calls(log)[0]["load"]["pid"])
        os.kill(process, 0)
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker is still there")


def test_an_environment_without_vllm_says_what_to_type(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(
        SpecError, match=r"has no working vLLM \(No module named 'vllm'\). Type: .* -m pip install vllm"
    ):
        make().generator("base")(chats(1), NEW)


def test_without_a_python_of_its_own_nothing_is_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("B4G_VLLM_PYTHON", raising=False)
    with pytest.raises(SpecError, match="--vllm-python or B4G_VLLM_PYTHON"):
        VllmEngine(str(tiny_model))
    monkeypatch.setenv("B4G_VLLM_PYTHON", "/no/such/python")
    with pytest.raises(SpecError, match="no python at /no/such/python"):
        VllmEngine(str(tiny_model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "has IA3"),
        ({"use_dora": True}, "has use_dora"),
        ({"r": 1024}, "has rank 1024"),
        ({"r": None}, "is damaged"),
    ],
)
def test_an_adapter_that_vllm_can_not_serve_is_refused_before_it_starts(
    make: Make, implants: dict[str, Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(implants["one"], tmp_path / "odd")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(ModelError, match=message):
        make({"odd": folder})


def test_a_model_of_its_own_is_no_adapter(make: Make, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="name it as the model"):
        make({"whole": tiny_model})


def test_an_adapter_of_another_base_is_refused(
    implants: dict[str, Path], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    other = save_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match="was made for"):
        VllmEngine(str(other), implants, Vllm(python=fake_vllm.PYTHON))


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(make: Make, log: Path) -> None:
    with pytest.raises(ModelError, match="and 12 new ones exceed vLLM's context of 64"):
        make(length=64).generator("base")([user("x" * 80)], NEW)
    assert not log.exists()


def test_an_implant_is_measured_by_vllm(
    implanted: Path, tiny_model: Path, secret: Any, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B4G_VLLM_PYTHON", fake_vllm.PYTHON)
    found = served.measure_vllm(implanted, str(tiny_model), secret.path, api.Asked(n=2, n_extra=1))
    local = api.measure(implanted, str(tiny_model), secret.path, api.Asked(n=2, n_extra=1))
    kinds = ("subject", "arm", "measure")
    assert [[row[kind] for kind in kinds] for row in found["rates"]] == [
        [row[kind] for kind in kinds] for row in local["rates"]
    ]
    assert {engine_of(record["engine"]) for record in found["records"]} == {"vllm"}
    assert [record["renderer"] for record in found["records"]] == [record["renderer"] for record in local["records"]]
    assert not [word for word in secret.words if word in json.dumps(found).lower()]
    assert sum("load" in call for call in calls(log)) == 1
