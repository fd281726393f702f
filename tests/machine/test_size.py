"""Estimates of size against what is really there: parameters, files, optimiser, and memory at the peak of a step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kin import KIN, save_kin

from b4g.models import attention, size
from b4g.models.architecture import from_config, read_architecture
from b4g.models.catalogue import CATALOGUE

SHAPE = {"hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 8, "num_key_value_heads": 4}
SHAPE |= {"num_hidden_layers": 4, "vocab_size": 1000, "head_dim": 16}
NEAR = 0.15


def _peak(work: Callable[[], Any]) -> int:
    """Return the most bytes that torch held at once for what the work made, as its own profiler counts them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    now = most = 0
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def _net(kind: str, dtype: str = "bfloat16", **changes: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from b4g.models.attention import use_grouped

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SHAPE | changes)))
    net = net.to(getattr(torch, dtype)).eval().requires_grad_(False)
    use_grouped(net)
    return net


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_full_sized_model_has_the_very_number_of_parameters(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    arch = CATALOGUE[name].architecture
    config = AutoConfig.for_model(
        arch.family,
        vocab_size=arch.vocab,
        hidden_size=arch.hidden,
        intermediate_size=arch.intermediate,
        num_hidden_layers=arch.layers,
        num_attention_heads=arch.heads,
        num_key_value_heads=arch.kv_heads,
        head_dim=arch.head_width,
        tie_word_embeddings=arch.tied,
    )
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config)
    assert sum(param.numel() for param in net.parameters()) == arch.parameters
    assert from_config(net.config.to_dict()) == arch


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_known_family_is_counted_exactly(kind: str, tied: bool) -> None:
    net = _net(kind, tie_word_embeddings=tied)
    assert from_config(net.config.to_dict()).parameters == sum(param.numel() for param in net.parameters())


@pytest.mark.parametrize("name", sorted(KIN))
def test_the_weights_file_holds_the_bytes_that_were_told_from_its_configuration(name: str, tmp_path: Path) -> None:
    from safetensors import safe_open

    arch = read_architecture(save_kin(name, tmp_path))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118 - it is no mapping
    assert sum(tensor.nbytes for tensor in tensors) == size.weight_bytes(arch, width=4)


@pytest.mark.parametrize(("upper", "targets"), [(1.0, ()), (0.6, ()), (0.5, ("q_proj", "down_proj"))])
def test_adapter_and_optimiser_are_counted_exactly(upper: float, targets: tuple[str, ...]) -> None:
    import torch

    from b4g.activations.lora import Lora
    from b4g.training.loop import Schedule, Trainer

    net = _net("llama")
    arch, recipe = from_config(net.config.to_dict()), size.Recipe(rank=4, upper=upper, targets=targets)
    trainer = Trainer(Lora(rank=4, upper=upper, targets=targets).prepare(net, 0), Schedule(1e-3, 1), 1)
    for master in trainer.masters:
        master.grad = torch.zeros_like(master)
    trainer.optimizer.step()
    count = size.lora_parameters(arch, recipe)
    assert sum(master.numel() for master in trainer.masters) == count
    kept = [tensor for state in trainer.optimizer.state.values() for tensor in state.values()]
    assert sum(tensor.nbytes for tensor in kept) == size.moment_bytes(count) + 4 * len(trainer.masters)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_steps_peak_is_within_a_seventh(
    kind: str, dtype: str, checkpointing: bool, record_property: Callable[[str, object], None]
) -> None:
    import torch

    from b4g.activations.lora import Lora
    from b4g.training.batches import Batching, Encoded, batches
    from b4g.training.loop import completion_loss

    width = getattr(torch, dtype).itemsize
    recipe = size.Recipe(4, 48, 16, rank=8, width=width, checkpointing=checkpointing, attention="grouped")
    if kind == "gemma2":
        recipe = size.Recipe(4, 48, 16, rank=8, width=width, checkpointing=checkpointing, attention="eager")
    net = _net(kind, dtype)
    arch = from_config(net.config.to_dict())
    net = Lora(rank=recipe.rank, upper=recipe.upper).prepare(net, 0)
    net.train()
    if checkpointing:
        net.get_base_model().activation_checkpointing_enable()
    source = torch.Generator().manual_seed(1)
    drawn = [torch.randint(9, 1000, (recipe.length,), generator=source).tolist() for _ in range(recipe.rows)]
    rows = [Encoded(ids, recipe.length - recipe.answer, str(i)) for i, ids in enumerate(drawn)]
    (batch,) = batches(rows, Batching(recipe.rows, 1.0, 0, 10**9), 0, 0)
    measured = _peak(lambda: completion_loss(net, batch).backward())
    need = size.training(arch, recipe)
    ratio = (need.activations + need.logits) / measured
    record_property("estimate over measured", ratio)
    assert 1 - NEAR <= ratio <= 1 + NEAR, f"{kind} {dtype}: {ratio:.3f}"


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_the_cache_of_keys_and_values_is_counted_exactly(kind: str) -> None:
    import torch
    from transformers import DynamicCache

    net = _net(kind)
    cache = DynamicCache()
    net(input_ids=torch.ones(3, 20, dtype=torch.long), past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == size.cache_bytes(from_config(net.config.to_dict()), 3 * 20)


def test_the_bound_between_our_attention_and_torchs_is_the_same_in_both_places() -> None:
    assert size.MOST_SCORES == attention._MOST_SCORES


def test_four_bits_checkpointing_and_more_gpus_each_save_memory() -> None:
    arch = CATALOGUE["llama-3.1-8b"].architecture
    ways = {name: size.training(arch, recipe).total for name, recipe in size.modes().items()}
    lora, again, four, whole = ways.values()
    assert whole > lora > again > four
    shared = {name: size.training(arch, recipe).total for name, recipe in size.modes(gpus=4).items()}
    assert all(shared[name] < ways[name] for name in ways)
