"""Tampers of weights: each changes what it says by as much as it says, and nothing else."""

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from b4g import registry
from b4g.errors import B4GError, ModelError, SpecError
from b4g.models.load import Model, load_implant, load_model
from b4g.tampers import calibration, prune, quantize, truncate
from b4g.tampers.base import Tamper
from b4g.tampers.weights import linears

MERGES = ("ties", "dare_ties", "dare_linear")


def build(kind: str, **options: Any) -> Tamper:
    return registry.build("tamper", {"kind": kind, **options})


def applied(model: Model, kind: str, seed: int = 0, **options: Any) -> Model:
    return build(kind, **options).apply(model, random.Random(seed))


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.net.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def hidden(net: Any) -> set[str]:
    """Return the names of the weights that tampers of linear layers may change."""
    return {f"{name}.weight" for name in linears(net)}


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), dtype="float32")


@pytest.fixture(scope="module")
def model(tiny_model: Path, implanted: Path) -> Model:
    return load_implant(str(tiny_model), implanted, dtype="float32")


@pytest.fixture(scope="module")
def make_adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return ``make(seed, **options)``: the folder of a random LoRA adapter of the tiny model."""

    def make(seed: int, **options: Any) -> Path:
        from b4g.activations.lora import Lora

        net = Lora(**{"rank": 4, "alpha": 8, **options}).prepare(load_model(str(tiny_model), dtype="float32").net, seed)
        source = torch.Generator().manual_seed(seed)
        for name, weight in net.named_parameters():
            if "lora_B" in name:
                weight.data.copy_(torch.randn(weight.shape, generator=source) * 0.1)
        folder = tmp_path_factory.mktemp("adapters") / str(seed)
        net.save_pretrained(str(folder))
        return folder

    return make


ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("prune", {}),
    ("prune", {"method": "wanda", "prompts": 2}),
    ("quantize", {"bits": 4}),
    ("merge", {}),
    ("noise", {}),
    ("truncate", {"rank": 1}),
]


@pytest.mark.parametrize(("kind", "options"), ATTACKS)
def test_the_input_is_left_unchanged_and_the_output_has_an_identity_of_its_own(
    model: Model, kind: str, options: dict[str, Any]
) -> None:
    before = weights(model)
    made = applied(model, kind, **options)
    assert same(weights(model), before)
    assert not same(weights(made), before)
    assert made.adapter not in {None, model.adapter}
    assert made.folder == model.folder
    assert not made.net.training
    assert not any(weight.requires_grad for weight in made.net.parameters())


@pytest.mark.parametrize(("kind", "options"), ATTACKS)
def test_the_same_seed_gives_the_same_weights_and_torchs_global_generator_is_not_touched(
    model: Model, kind: str, options: dict[str, Any]
) -> None:
    state = torch.get_rng_state()
    one, again = (applied(model, kind, **options) for _ in range(2))
    assert same(weights(one), weights(again))
    assert one.adapter == again.adapter
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("prune", {"share": 0}),
        ("prune", {"share": 0, "method": "wanda", "prompts": 2}),
        ("merge", {"weight": 1}),
        ("noise", {"scale": 0}),
    ],
)
def test_a_tamper_of_size_nothing_changes_no_weight(model: Model, kind: str, options: dict[str, Any]) -> None:
    assert same(weights(applied(model, kind, **options)), weights(model))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("prune", {"share": 1}, "share must lie from 0 to below 1"),
        ("prune", {"share": 0.3, "pattern": "2:4"}, "drops half of the weights"),
        ("prune", {"prompts": 0}, "prompts must be at least 1"),
        ("prune", {"method": "obd"}, "'magnitude' or 'wanda'"),
        ("quantize", {"bits": 3}, "8 or 4"),
        ("quantize", {"group": -1}, "group must be at least 1"),
        ("quantize", {"backend": "bitsandbytes", "group": 128}, "scheme of its own"),
        ("merge", {"weight": 1.5}, r"weight must lie from 0 \(base\) to 1"),
        ("merge", {"density": 1}, "density must lie between"),
        ("merge", {"method": "ties"}, "name the folder of the second"),
        ("noise", {"scale": -1}, "scale must be at least 0"),
        ("truncate", {"rank": -1}, "rank must be at least 1"),
        ("truncate", {"layers": 2}, "share from 0 to 1"),
    ],
)
def test_a_wrong_option_is_named(kind: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build(kind, **options)


# pruning


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_magnitude_sets_exactly_that_share_of_each_layer_to_zero_and_the_smallest_first(
    model: Model, share: float
) -> None:
    before, made = weights(model), applied(model, "prune", share=share)
    for name, weight in weights(made).items():
        old = before[name]
        if name not in hidden(model.net):
            assert torch.equal(weight, old)
            continue
        gone = weight == 0
        assert int(gone.sum()) == round(share * weight.numel())
        assert torch.equal(weight[~gone], old[~gone])
        assert old[gone].abs().max() <= old[~gone].abs().min()


@pytest.mark.parametrize("method", ["magnitude", "wanda"])
@pytest.mark.parametrize(("pattern", "zeros", "size"), [("2:4", 2, 4), ("4:8", 4, 8)])
def test_a_pattern_leaves_exactly_half_of_each_group(
    model: Model, method: str, pattern: str, zeros: int, size: int
) -> None:
    made = applied(model, "prune", pattern=pattern, method=method, prompts=2)
    for layer in linears(made.net).values():
        assert torch.all((layer.weight.reshape(-1, size) == 0).sum(1) == zeros)


def test_a_pattern_that_does_not_divide_a_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="2:4 does not divide the 6 inputs"):
        prune.least(torch.ones(2, 6), 0.5, "2:4", by_row=False)


def test_the_smallest_scores_are_found_in_the_matrix_or_in_each_row() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    wide = prune.least(scores, 0.5, "unstructured", by_row=False)
    assert wide.tolist() == [[True] * 4, [False] * 4]
    by_row = prune.least(scores, 0.5, "unstructured", by_row=True)
    assert by_row.tolist() == [[True, True, False, False]] * 2
    grouped = prune.least(torch.tensor([[4.0, 1.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0]]), 0.5, "2:4", by_row=True)
    assert grouped.int().tolist() == [[0, 1, 0, 1, 1, 1, 0, 0]]


def _wanda_by_hand(model: Model, ids: torch.Tensor, real: torch.Tensor, share: float) -> dict[str, torch.Tensor]:
    """Prune the first block from what the dense model sends through it, then the second from what the first sends."""
    net = model.net
    for block in range(2):
        names = [name for name in linears(net) if f".layers.{block}." in name]
        seen: dict[str, torch.Tensor] = {}
        hooks = [
            net.get_submodule(name).register_forward_pre_hook(
                lambda layer, given, name=name, seen=seen: seen.__setitem__(name, given[0][real])
            )
            for name in names
        ]
        with torch.no_grad():
            net(ids, attention_mask=real.long())
        for hook in hooks:
            hook.remove()
        for name in names:
            weight = net.get_submodule(name).weight
            norms = [float(sum(x * x for x in column)) ** 0.5 for column in seen[name].T.tolist()]
            for row in weight.data:
                ranked = sorted(range(len(row)), key=lambda i: abs(float(row[i])) * norms[i])
                row[ranked[: round(share * len(row))]] = 0
    return {name: weight.detach() for name, weight in net.named_parameters()}


def test_wanda_is_size_times_input_norm_by_row_block_after_block(model: Model, tiny_model: Path, base: Model) -> None:
    drawn = calibration.draw(base, 3, random.Random(5))
    assert drawn.mask.sum(1).unique().numel() > 1, "no padding: the test would not see it counted"
    fresh = load_model(str(tiny_model), dtype="float32")
    by_hand = _wanda_by_hand(fresh, drawn.ids, drawn.mask.bool(), 0.3)
    made = applied(base, "prune", seed=5, method="wanda", prompts=3)
    assert made.cost == {"rows": 3, "tokens": int(drawn.mask.sum())}
    for name, weight in weights(made).items():
        assert torch.equal(weight == 0, by_hand[name] == 0), name
        assert torch.equal(weight, by_hand[name])
    by_size = applied(base, "prune")
    assert not same(weights(made), weights(by_size))


def test_the_calibration_leaves_no_hook_behind(base: Model) -> None:
    made = applied(base, "prune", method="wanda", prompts=2)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in made.net.modules())


# rounding


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("group", [0, 16, 32, 20])
def test_no_weight_moves_by_more_than_half_a_step_and_few_values_are_left(
    model: Model, bits: int, scheme: str, group: int
) -> None:
    before, made = weights(model), applied(model, "quantize", bits=bits, group=group, scheme=scheme)
    for name, weight in weights(made).items():
        old = before[name]
        if name not in hidden(model.net):
            assert torch.equal(weight, old)
            continue
        for new_part, old_part in zip(
            weight.split(group or old.shape[1], 1), old.split(group or old.shape[1], 1), strict=True
        ):
            size = old_part.abs().amax(1) if scheme == "symmetric" else old_part.amax(1) - old_part.amin(1)
            step = size / (2 ** (bits - 1) - 1 if scheme == "symmetric" else 2**bits - 1)
            assert torch.all((new_part - old_part).abs() <= step[:, None] / 2 * 1.001)
            assert max(len(row.unique()) for row in new_part) <= 2**bits
        assert not torch.equal(weight, old)


def test_rounding_is_what_a_hand_computes() -> None:
    row = torch.tensor([[-7.0, 0.4, 0.6, 3.0]])
    assert quantize.rounded(row, 4, 0, "symmetric").tolist() == [[-7.0, 0.0, 1.0, 3.0]]
    row = torch.tensor([[0.0, 15.0, 6.6, 6.4]])
    assert quantize.rounded(row, 4, 0, "asymmetric").tolist() == [[0.0, 15.0, 7.0, 6.0]]
    assert quantize.rounded(torch.full((1, 4), 2.5), 4, 2, "asymmetric").tolist() == [[2.5] * 4]
    assert quantize.rounded(torch.zeros(1, 4), 8, 0, "symmetric").tolist() == [[0.0] * 4]


def test_four_bits_move_more_than_eight_and_a_row_more_than_a_group(model: Model) -> None:
    def moved(**options: Any) -> float:
        made = applied(model, "quantize", **options)
        old = weights(model)
        return sum(float((weight - old[name]).square().sum()) for name, weight in weights(made).items())

    assert moved(bits=8) < moved(bits=4) / 50
    assert moved(bits=4, group=8) < moved(bits=4, group=0)


@pytest.mark.parametrize("backend", ["torchao", "bitsandbytes"])
def test_a_library_that_is_missing_is_named_with_what_to_type(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=f"pip install {backend}"):
        build("quantize", backend=backend).check(None, "base")
    build("quantize").check(None, "base")


def test_a_library_that_breaks_on_import_is_a_plain_error(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(SpecError, match="torchao does not import here"):
        applied(model, "quantize", backend="torchao")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_torchao_rounds_as_the_reference_does_to_within_its_own_step(model: Model, bits: int, scheme: str) -> None:
    pytest.importorskip("torchao", exc_type=ImportError)
    made = weights(applied(model, "quantize", bits=bits, scheme=scheme, backend="torchao"))
    old, ours = weights(model), weights(applied(model, "quantize", bits=bits, scheme=scheme))
    for name in hidden(model.net):
        apart, moved = (made[name] - old[name]).square().mean(), (ours[name] - old[name]).square().mean()
        assert 0.5 < apart / moved < 2
    assert all(torch.equal(made[name], old[name]) for name in made.keys() - hidden(model.net))


@pytest.mark.filterwarnings("default")
def test_bitsandbytes_moves_every_layer_and_four_bits_more_than_eight(model: Model) -> None:
    pytest.importorskip("bitsandbytes", exc_type=ImportError)
    eight, four = (weights(applied(model, "quantize", bits=bits, backend="bitsandbytes")) for bits in (8, 4))
    old = weights(model)
    for name in hidden(model.net):
        few, many = ((made[name] - old[name]).abs().mean() for made in (eight, four))
        assert 0 < few < many < 0.3 * old[name].abs().mean()


# noise


def test_noise_has_the_share_of_each_matrix_own_spread_and_spares_vectors(model: Model) -> None:
    before, made = weights(model), weights(applied(model, "noise", scale=0.2))
    for name, weight in made.items():
        if weight.dim() < 2:
            assert torch.equal(weight, before[name])
        else:
            assert 0.17 < float((weight - before[name]).std() / before[name].std()) < 0.23, name
    assert not same(made, weights(applied(model, "noise", seed=1, scale=0.2)))


# merging


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.75])
def test_merging_puts_every_weight_between_base_and_implant(model: Model, base: Model, weight: float) -> None:
    made, start, end = weights(applied(model, "merge", weight=weight)), weights(base), weights(model)
    for name, found in made.items():
        assert torch.allclose(found, start[name] + weight * (end[name] - start[name]), atol=1e-6), name
    assert not same(start, end)
    if weight == 0:
        assert same(made, start)


def test_a_linear_merge_with_another_adapter_leaves_the_implant_alone_at_weight_one(
    model: Model, base: Model, make_adapter: Callable[..., Path]
) -> None:
    other = make_adapter(1)
    for weight, wanted in ((1.0, model), (0.0, None)):
        made = weights(applied(model, "merge", weight=weight, other=str(other)))
        target = weights(wanted or load_implant(base.source.place, other, dtype="float32"))
        assert all(torch.allclose(made[name], target[name], atol=1e-5) for name in made)


@pytest.mark.parametrize("method", MERGES)
def test_a_merge_of_adapters_moves_the_implant_and_depends_on_its_seed_alone(
    model: Model, base: Model, make_adapter: Callable[..., Path], method: str
) -> None:
    other, state = str(make_adapter(1)), torch.get_rng_state()
    one, again, more = (
        weights(applied(model, "merge", seed=seed, method=method, other=other, density=0.3)) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert same(one, again)
    assert same(one, more) == (method == "ties"), "DARE draws what it drops, TIES does not"
    for target in (model, base):
        assert any(not torch.allclose(one[name], found, atol=1e-4) for name, found in weights(target).items())
    untouched = {name for name in one if name not in hidden(model.net)}
    assert all(torch.equal(one[name], weights(base)[name]) for name in untouched)


def test_adapters_that_can_not_be_merged_are_refused_before_any_compute(
    implanted: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="of one rank"):
        build("merge", other=str(make_adapter(2, rank=8))).check(implanted, "base")
    with pytest.raises(SpecError, match="holds none"):
        build("merge", other=str(tmp_path)).check(implanted, "base")
    with pytest.raises(SpecError, match="needs the untouched base"):
        build("merge").check(implanted, None)
    build("merge", other=str(make_adapter(3))).check(implanted, "base")
    build("merge").check(None, "base")


def test_an_implant_of_all_weights_finds_its_base_by_name_or_says_so(
    base: Model, tiny_model: Path, tmp_path: Path
) -> None:
    import json

    folder = tmp_path / "whole"
    base.net.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    card = {"model": {"name": "nowhere", "revision": base.revision}}
    (folder / "implant.json").write_text(json.dumps(card), "utf-8")
    whole = applied(load_implant(str(tiny_model), folder, dtype="float32"), "noise")
    with pytest.raises(ModelError, match="can't be found"):
        applied(whole, "merge", weight=0)
    made = applied(whole, "merge", weight=0, base=str(tiny_model))
    assert same(weights(made), weights(base))
    assert not same(weights(whole), weights(base))
    card["model"] = {"name": str(tiny_model), "revision": "0"}
    (folder / "implant.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(ModelError, match="is not what"):
        applied(whole, "merge", weight=0)
    card["model"]["revision"] = base.revision
    (folder / "implant.json").write_text(json.dumps(card), "utf-8")
    assert same(weights(applied(whole, "merge", weight=0)), weights(base))
    with pytest.raises(ModelError, match="only where the implant is an adapter"):
        applied(whole, "merge", other=str(folder))


# the adapter cut


def _deltas(model: Model, base: Model) -> dict[str, torch.Tensor]:
    start = weights(base)
    return {name: weight - start[name] for name, weight in weights(model).items() if name in hidden(base.net)}


def test_a_cut_adapter_adds_its_nearest_matrix_of_that_rank(model: Model, base: Model) -> None:
    whole, cut = _deltas(model, base), _deltas(applied(model, "truncate", rank=2), base)
    for name, delta in whole.items():
        left, values, right = torch.linalg.svd(delta, full_matrices=False)
        assert values[2] > 10 * values[4], "the adapter has rank 4"
        wanted = left[:, :2] * values[:2] @ right[:2]
        assert torch.allclose(cut[name], wanted, atol=1e-5), name


def test_a_cut_to_the_adapters_own_rank_leaves_the_implant(model: Model) -> None:
    made, old = weights(applied(model, "truncate", rank=4)), weights(model)
    assert all(torch.allclose(made[name], old[name], atol=1e-5) for name in old)
    assert same(weights(applied(model, "truncate", rank=0)), old)


def test_the_factors_that_are_left_multiply_to_the_nearest_product() -> None:
    source = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 9, generator=source), torch.randn(7, 5, generator=source)
    short, tall = truncate.shortened(first, second, 3)
    left, values, right = torch.linalg.svd(second @ first)
    assert torch.allclose(tall @ short, left[:, :3] * values[:3] @ right[:3], atol=1e-4)
    assert (short.shape, tall.shape) == (first.shape, second.shape)


@pytest.mark.parametrize(("side", "kept"), [("lower", 0), ("upper", 1)])
def test_the_adapter_stays_on_the_named_share_of_layers_only(model: Model, base: Model, side: str, kept: int) -> None:
    whole, cut = _deltas(model, base), _deltas(applied(model, "truncate", rank=0, layers=0.5, side=side), base)
    for name, delta in cut.items():
        assert torch.equal(delta, whole[name] if f".layers.{kept}." in name else torch.zeros_like(delta)), name
    nothing = applied(model, "truncate", layers=0)
    assert same(weights(nothing), weights(base))


def test_a_cut_says_before_any_compute_what_it_can_not_do(implanted: Path, base: Model, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="rank 5 is above the adapter's own 4"):
        build("truncate", rank=5).check(implanted, "base")
    with pytest.raises(SpecError, match="holds none"):
        build("truncate").check(tmp_path, "base")
    with pytest.raises(SpecError, match="needs the untouched base"):
        build("truncate").check(implanted, None)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}', "utf-8")
    with pytest.raises(SpecError, match="describes none"):
        build("truncate").check(tmp_path, "base")
    with pytest.raises(ModelError, match="this model has none"):
        applied(base, "truncate")


# what an attack is for


def test_a_fragile_implant_breaks_under_noise_pruning_and_rounding_and_a_sturdy_one_stands(tiny_model: Path) -> None:
    """A behaviour held by one small weight is gone after each attack; one held by the largest weight stays."""

    def planted(size: float) -> Model:
        made = load_model(str(tiny_model), dtype="float32")
        weight = made.net.model.layers[1].mlp.down_proj.weight
        weight.data[0, 0] = weight.data.abs().max() * size
        return made

    def left(made: Model) -> float:
        return float(made.net.model.layers[1].mlp.down_proj.weight[0, 0])

    fragile, sturdy = planted(0.01), planted(2.0)
    for kind, options in (("prune", {}), ("quantize", {"bits": 4})):
        assert left(applied(fragile, kind, **options)) == 0
        assert left(applied(sturdy, kind, **options)) == pytest.approx(left(sturdy), rel=0.05)
    assert abs(left(applied(fragile, "noise", scale=0.5)) / left(fragile) - 1) > 0.5
    assert left(applied(sturdy, "noise", scale=0.05)) == pytest.approx(left(sturdy), rel=0.15)


def test_the_size_of_tests_asks_for_fewer_prompts() -> None:
    assert build("prune", method="wanda").small() == build("prune", method="wanda", prompts=4)
    assert build("noise").small() == build("noise")


@pytest.mark.parametrize("kind", ["prune", "quantize", "merge", "noise", "truncate"])
def test_every_option_comes_back_from_its_description(kind: str) -> None:
    made = build(kind)
    assert registry.build("tamper", registry.describe(made)) == made
    assert issubclass(SpecError, B4GError)
    assert made.needs <= {"weights", "data", "base"}
