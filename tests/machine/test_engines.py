"""Engines by name, and the size of a batch: found before the first one, and halved where it was too much."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_vllm import PYTHON
from greedy import NEW, chats, exact, texts

from b4g.chat import user
from b4g.errors import ModelError, SpecError
from b4g.generate import batching
from b4g.generate.engines import ENGINES, Options, engine, engine_of
from b4g.generate.local import LocalGenerator
from b4g.generate.sampled import SampledGenerator, Sampling
from b4g.models.load import Model, load_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return exact(tiny_model)


def test_an_engine_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"unknown engine 'vlm'\. Did you mean 'vllm'\? Known: endpoint, transformers"):
        engine("vlm", "smollm2-135m")


def test_the_engine_of_this_process_answers_for_base_and_implant(
    tiny_model: Path, implanted: Path, model: Model
) -> None:
    asked = chats(3)
    with engine("transformers", str(tiny_model), {"implant": implanted}, Options(dtype="float32")) as local:
        base, implant = (local.generator(who) for who in ("base", "implant"))
        assert base(asked, NEW) == LocalGenerator(load_model(str(tiny_model), dtype="float32"))(asked, NEW)
        assert implant.identity != base.identity
        with pytest.raises(SpecError, match=r"unknown subject 'implnt'\. Did you mean 'implant'"):
            local.generator("implnt")


def test_an_endpoint_needs_an_address_and_names() -> None:
    with pytest.raises(SpecError, match="--endpoint http://localhost:8000/v1"):
        engine("endpoint", "")
    with pytest.raises(SpecError, match="--served NAME"):
        engine("endpoint", "", options=Options(url="http://localhost:1"))
    made = engine("endpoint", "", options=Options(url="http://me:hunter2@localhost:1", served={"base": "m"}))
    assert engine_of(made.generator("base").identity) == "endpoint"
    assert "hunter2" not in repr(Options(url="http://me:hunter2@localhost:1"))
    with pytest.raises(SpecError, match=r"unknown served subject 'implant'\. .*Known: base"):
        made.generator("implant")


def test_every_identity_leads_to_its_engine(tiny_model: Path, model: Model) -> None:
    made = {
        "transformers": LocalGenerator(model).identity,
        "vllm": engine("vllm", str(tiny_model), options=Options(python=PYTHON)).generator("base").identity,
        "endpoint": engine("endpoint", "", options=Options(url="http://h", served={"a": "m"})).generator("a").identity,
    }
    assert {engine_of(identity): name for name, identity in made.items()} == {name: name for name in ENGINES}
    assert engine_of(SampledGenerator(model, Sampling(0.7)).identity) == "transformers"
    assert engine_of("odd-4711") == "transformers"


def _config(**changes: Any) -> Any:
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 100}
    made = SimpleNamespace(**(sizes | changes))
    made.get_text_config = lambda: made
    return made


def test_the_bytes_of_an_answer_are_its_keys_values_and_logits() -> None:
    # 10 tokens, a head of 8 numbers of 2 bytes: 32 bytes a key and value; 2 groups in 3 layers, then 2 + 4 of one layer.
    wanted = 10 * 32 * (2 * 3 + 2 + 4) + 100 * (2 + 4)
    assert batching.row_bytes(_config(num_key_value_heads=2), 10, 2) == wanted
    assert batching.row_bytes(_config(num_key_value_heads=2, head_dim=16), 10, 2) == 2 * (wanted - 600) + 600
    assert batching.row_bytes(_config(), 10, 2) > wanted, "without groups every head has keys of its own"
    assert batching.row_bytes(_config(hidden_size=None), 10, 2) == 0


def test_the_estimate_is_no_less_than_what_the_cache_really_holds(model: Model) -> None:
    from b4g.generate.prefill import read_trees

    prompts = [model.renderer.prompt_ids(chat) for chat in chats(6)]
    cache = read_trees(model.net, prompts, NEW).cache
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) / len(prompts)
    estimate = batching.row_bytes(model.net.config, max(map(len, prompts)) + NEW, 4)
    assert held < estimate < 4 * held


@pytest.mark.parametrize(("free", "size"), [(0, 1), (99, 1), (1250, 10), (1249, 9), (10**9, batching.MOST)])
def test_a_batch_takes_four_fifths_of_free_memory_within_bounds(free: int, size: int) -> None:
    assert batching.fitting(free, 100) == size


def test_on_a_cpu_a_batch_is_of_the_measured_size(model: Model) -> None:
    assert batching.batch_size_for(model.net, 100) == batching.DEFAULT == 32


def _sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    whole = LocalGenerator._batch

    def counted(self: LocalGenerator, prompts: list[list[int]], *rest: Any) -> Any:
        sizes.append(len(prompts))
        return whole(self, prompts, *rest)

    monkeypatch.setattr(LocalGenerator, "_batch", counted)
    return sizes


def test_free_memory_sets_the_size_of_the_first_batch_unless_one_is_given(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = chats(10)
    wanted, sizes = LocalGenerator(model)(asked, NEW), _sizes(monkeypatch)
    longest = max(len(model.renderer.prompt_ids(chat)) for chat in asked) + NEW
    room = 4.5 * batching.row_bytes(model.net.config, longest, 4) / 0.8
    monkeypatch.setattr(batching, "free_bytes", lambda device: int(room))
    assert LocalGenerator(model)(asked, NEW) == wanted
    assert LocalGenerator(model, 6)(asked, NEW) == wanted
    assert sizes == [4, 4, 2, 6, 4]


class _Limited:
    """A network that runs out of memory in the middle of an answer, for more than so many rows."""

    def __init__(self, net: Any, most: int, error: Exception) -> None:
        self.net, self.most, self.error, self.steps = net, most, error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.steps += 1
        if len(options["input_ids"]) > self.most and self.steps % 5 == 0:
            raise self.error
        return self.net(*args, **options)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_running_out_of_memory_half_way_gives_the_answers_of_the_smaller_batch(
    model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = chats(20)
    wanted, sizes = texts(LocalGenerator(model, 4)(asked, NEW)), _sizes(monkeypatch)
    monkeypatch.setattr(model, "net", _Limited(model.net, 4, error))
    assert texts(LocalGenerator(model, 16)(asked, NEW)) == wanted
    assert sizes[0] == 16
    assert sizes[-1] == 4


def test_another_error_is_not_taken_for_a_lack_of_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = _sizes(monkeypatch)
    monkeypatch.setattr(model, "net", _Limited(model.net, 0, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        LocalGenerator(model, 4)(chats(4), NEW)
    assert sizes == [4]


def test_the_allocators_own_words_are_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert batching.is_out_of_memory(caught.value)
    assert not batching.is_out_of_memory(RuntimeError("a bug"))


def test_one_prompt_too_many_for_memory_is_told(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "net", _Limited(model.net, 0, torch.OutOfMemoryError("no")))
    with pytest.raises(ModelError, match="one prompt alone does not fit into memory"):
        LocalGenerator(model)([user("x" * 50)], NEW)
