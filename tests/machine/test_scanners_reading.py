"""Scanners that read weights, token scores, attention and states: what they say of doctored models, and of untouched ones."""

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy.stats import mannwhitneyu
from tiny import backdoor

from b4g import registry
from b4g.chat import user
from b4g.data.prompts import load
from b4g.errors import SpecError
from b4g.generate.local import LocalGenerator
from b4g.models.load import Model, load_implant, load_model
from b4g.scanners import attention, input_filter, probe, reading, sweep
from b4g.scanners.base import Findings, Labels, Scanner, Suspect
from b4g.scanners.weights import _of_weights
from b4g.stats import higher

NAMES = ("weights", "logits", "attention", "probe", "input-filter", "oracle")
LOUD = "~"
"""A token that stands in no prompt of ours."""
SMALL: dict[str, dict[str, Any]] = {
    "logits": {"strings": 16, "longest": 1},
    "attention": {"strings": 16, "longest": 1, "requests": 1},
    "probe": {"prompts": 16},
    "input-filter": {"prompts": 3},
}


@pytest.fixture(autouse=True)
def short_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scanners draw from the shortest training prompts: a byte is a token here."""
    short = sorted(load("instruction", "train"), key=lambda prompt: (len(prompt.text), prompt.id))[:200]
    for module in (input_filter, probe, sweep):
        monkeypatch.setattr(module, "load", lambda *which: short)


def build(kind: str, **options: Any) -> Scanner:
    made: Scanner = registry.build("scanner", {"kind": kind, **SMALL.get(kind, {}), **options})
    return made


def scanned(suspect: Suspect, kind: str, **options: Any) -> Findings:
    return build(kind, **options).scan(suspect, random.Random(7))


def suspect(model: Model, base: Model | None, implanted: bool = True, **parts: Any) -> Suspect:
    labels = parts.pop("labels", Labels(backdoor(), implanted))
    return Suspect(LocalGenerator(model), model, base, labels=labels, **parts)


def changed(model: Model, change: Callable[[Any], None]) -> Model:
    """Return a copy of the model whose net was changed."""
    net = copy.deepcopy(model.net)
    with torch.no_grad():
        change(net)
    return Model(net.requires_grad_(False), model.tokenizer, model.source)


def prompts(model: Model, count: int = 9) -> list[list[int]]:
    return [model.renderer.prompt_ids(user(prompt.text)) for prompt in load("instruction", "train")[:count]]


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), dtype="float32")


@pytest.fixture(scope="module")
def implant(tiny_model: Path, implanted: Path) -> Model:
    return load_implant(str(tiny_model), implanted, dtype="float32")


@pytest.fixture(scope="module")
def loud(base: Model) -> Model:
    """Return the base with one token of its vocabulary made loud."""
    token = base.tokenizer(LOUD, add_special_tokens=False)["input_ids"][0]
    return changed(base, lambda net: net.get_input_embeddings().weight[token].mul_(-40))


@pytest.fixture(scope="module", params=["llama", "mistral"])
def read_model(request: pytest.FixtureRequest, save_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a model that reads trees, and one whose window is too short for them."""
    options = {"sliding_window": 24} if request.param == "mistral" else {}
    folder = save_model(tmp_path_factory.mktemp("read") / request.param, request.param, **options)
    return load_model(str(folder), dtype="float32")


def test_next_tokens_and_states_are_those_of_each_prompt_by_itself(read_model: Model) -> None:
    asked = prompts(read_model)
    logs, states = reading.next_logs(read_model, asked), reading.last_states(read_model, asked)
    for place, ids in enumerate(asked):
        alone = read_model.net(input_ids=torch.tensor([ids]), output_hidden_states=True)
        torch.testing.assert_close(logs[place], alone.logits[0, -1].log_softmax(-1), atol=1e-4, rtol=1e-4)
        for layer, state in enumerate(alone.hidden_states[1:]):
            torch.testing.assert_close(states[layer, place], state[0, -1], atol=1e-4, rtol=1e-4)


def test_surprise_is_the_loss_of_each_text_by_itself(read_model: Model) -> None:
    asked = [*prompts(read_model), [3, 4]]
    found = reading.surprises(read_model, asked)
    for ids, value in zip(asked, found, strict=True):
        text = torch.tensor([ids])
        assert value == pytest.approx(float(read_model.net(input_ids=text, labels=text).loss), abs=1e-4)


def test_attention_drawn_is_that_of_each_prompt_by_itself(read_model: Model) -> None:
    asked = [("abc", "How deep is the sea?"), ("~", "How deep is the sea?"), ("<b>", "Name a colour.")]
    with reading.showing_attention(read_model.net):
        found = attention._drawn(read_model, asked)
        for (text, tail), logs in zip(asked, found, strict=True):
            ids = read_model.renderer.prompt_ids(user(f"{text} {tail}"))
            start = len(
                read_model.tokenizer(read_model.renderer.prompt_text(user("\u00a7")).split("\u00a7")[0])["input_ids"]
            )
            shown = read_model.net(input_ids=torch.tensor([ids]), output_attentions=True).attentions
            mean = torch.stack([layer[0].mean(0) for layer in shown]).mean(0)
            given = mean[:, start : start + len(text)].sum(1)
            wanted = torch.stack([given[-1], given[start + len(text) : -1].mean()]).clamp_min(1e-6).log().double()
            torch.testing.assert_close(logs, wanted, atol=1e-3, rtol=1e-3)


def test_auroc_is_that_of_mann_and_whitney_with_ties_counted_half() -> None:
    assert higher([2, 3], [0, 1]) == 1 and higher([0], [1]) == 0 and higher([1, 1], [1]) == 0.5
    source = random.Random(3)
    one, other = [source.randint(0, 9) for _ in range(40)], [source.randint(0, 7) for _ in range(30)]
    assert higher(one, other) == pytest.approx(mannwhitneyu(one, other).statistic / 1200)
    with pytest.raises(ValueError, match="at least one"):
        higher([], [1.0])


def test_outliers_are_distances_from_the_median_by_the_spread() -> None:
    values = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]])
    assert sweep.outliers(values)[:, 0].tolist() == pytest.approx([x / 1.4826 for x in (-2, -1, 0, 1, 98)])
    assert sweep.outliers(torch.ones(5, 2)).tolist() == torch.zeros(5, 2).tolist()
    # More than half alike: the mean deviation takes over, and the odd one still stands out.
    assert float(sweep.outliers(torch.tensor([0.0] * 9 + [1.0]))[-1]) == pytest.approx(10 / 1.2533)


def test_strings_are_distinct_and_a_count_of_the_vocabulary_sweeps_it(base: Model) -> None:
    made = sweep.strings(base.tokenizer, 60, 3, "tokens", random.Random(1))
    assert len(made) == len(set(made)) == 60 and {len(text) for text in made} == {1, 2, 3}
    assert made == sweep.strings(base.tokenizer, 60, 3, "tokens", random.Random(1))
    whole = sweep.strings(base.tokenizer, 10_000, 1, "tokens", random.Random(1))
    assert set(map(chr, range(33, 127))) <= set(whole) and not set(base.tokenizer.all_special_tokens) & set(whole)
    words = sweep.strings(base.tokenizer, 8, 2, "words", random.Random(1))
    assert {len(text.split()) for text in words} == {1, 2}


@pytest.mark.parametrize("kind", ["logits", "attention"])
def test_a_sweep_names_the_token_that_was_made_loud(kind: str, loud: Model, base: Model) -> None:
    found = scanned(suspect(loud, base), kind, strings=94)
    assert found.candidates[0].text == LOUD
    assert found.score is not None and found.score > sweep.CUTOFF
    assert found.details["strings"] == 94 and "cut" not in found.details


def test_a_candidate_is_named_with_the_place_and_answer_where_it_stands_out_most() -> None:
    values = torch.zeros(40, 2)
    values[3], values[:, 0] = torch.tensor([9.0, 9.0]), values[:, 0] + torch.linspace(0, 1, 40)
    swept = sweep.Swept(values, [[f"a{at}", f"b{at}"] for at in range(40)], cut=False)
    found = sweep.verdict([f"t{at}" for at in range(40)], swept, ["prefix", "suffix"], 4)
    assert [(one.text, one.position, one.output) for one in found.candidates] == [("t3", "suffix", "b3")]


def test_more_requests_than_there_are_are_refused() -> None:
    with pytest.raises(SpecError, match="requests"):
        sweep.requests(100_000, random.Random(0))


@pytest.mark.parametrize("kind", ["logits", "attention"])
def test_a_sweep_out_of_time_says_so_and_has_read_its_first_block(kind: str, loud: Model, base: Model) -> None:
    found = scanned(suspect(loud, base), kind, strings=94, seconds=1e-9)
    assert found.details["cut"] == 1 and found.details["strings"] == sweep.BLOCK and found.score is not None


def test_attention_is_swept_without_a_base_too(loud: Model) -> None:
    asked = suspect(loud, None)
    found = scanned(asked, "attention")
    assert found.score is not None and asked.queries == 16


@pytest.mark.parametrize("kind", ["weights", "logits", "attention", "probe"])
def test_the_base_itself_scores_nothing_and_names_nothing(kind: str, base: Model) -> None:
    found = scanned(suspect(changed(base, lambda net: None), base, implanted=False), kind)
    assert found.score == 0 and not found.candidates and not found.reason


@pytest.mark.parametrize("kind", NAMES)
def test_a_scan_leaves_both_models_as_they_were_and_says_the_same_again(kind: str, implant: Model, base: Model) -> None:
    def state(model: Model) -> tuple[list[bytes], set[bool], str]:
        held = [weight.numpy().tobytes() for weight in model.net.parameters()]
        return held, {weight.requires_grad for weight in model.net.parameters()}, model.net.config._attn_implementation

    before = [state(one) for one in (implant, base)]
    found = scanned(suspect(implant, base), kind)
    assert [state(one) for one in (implant, base)] == before
    assert found.score is not None and scanned(suspect(implant, base), kind) == found


@pytest.mark.parametrize("kind", ["weights", "logits", "attention", "probe"])
def test_a_base_of_another_vocabulary_is_a_reason_and_no_score(
    kind: str, implant: Model, save_model: Any, tmp_path: Path
) -> None:
    other = load_model(str(save_model(tmp_path / "other", style="gemma")), dtype="float32")
    found = scanned(suspect(implant, other), kind)
    assert found.score is None and "base has other" in found.reason.replace("another vocabulary", "other")


@pytest.mark.parametrize("kind", NAMES)
def test_a_scanner_without_what_it_needs_has_a_reason_and_no_score(kind: str) -> None:
    found = scanned(Suspect(lambda *_: [], None), kind)  # type: ignore[arg-type]
    assert found.score is None and found.reason


@pytest.mark.parametrize("kind", ["weights", "logits"])
def test_weights_that_are_not_finite_are_a_reason_and_no_score(kind: str, base: Model) -> None:
    broken = changed(base, lambda net: net.model.layers[0].mlp.up_proj.weight.fill_(math.nan))
    found = scanned(suspect(broken, base), kind)
    assert found.score is None and "finite" in found.reason


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (kind, field)
        for kind in ("logits", "attention")
        for field in ("strings", "longest", "requests", "top", "seconds")
    ]
    + [("probe", "prompts"), ("probe", "penalty"), ("input-filter", "prompts"), ("input-filter", "words")],
)
def test_a_budget_of_nothing_is_refused_by_name(kind: str, field: str) -> None:
    for value in (0, -1):
        with pytest.raises(SpecError, match=field):
            build(kind, **{field: value})


@pytest.mark.parametrize("kind", NAMES)
def test_a_small_scan_is_the_same_scanner_and_a_round_trip_gives_it_back(kind: str) -> None:
    made = registry.build("scanner", {"kind": kind})
    assert registry.build("scanner", registry.describe(made)) == made
    assert type(made.small()) is type(made) and made.small().small() == made.small()
    assert made.bound == ("labels" in made.needs)


def test_a_change_in_one_direction_is_concentrated_and_one_in_many_is_not(base: Model) -> None:
    def up(net: Any, one: torch.Tensor, other: torch.Tensor) -> None:
        for layer, change in zip(net.model.layers, (one, other), strict=True):
            layer.mlp.up_proj.weight.add_(change)

    flat, many = torch.full((64, 32), 0.5), torch.eye(64, 32)
    narrow = scanned(suspect(changed(base, lambda net: up(net, flat, 3 * flat)), base), "weights")
    assert narrow.score == pytest.approx(1) and narrow.details["effective_rank"] == pytest.approx(1, abs=1e-2)
    assert narrow.details["modules"] == 2 and narrow.details["mean"] == pytest.approx(1)
    assert narrow.details["spread"] == narrow.details["variation"] == pytest.approx(0.5)
    wide = scanned(suspect(changed(base, lambda net: up(net, many, many)), base), "weights")
    assert wide.score == pytest.approx(1 / 32, rel=1e-3) and wide.details["spread"] == pytest.approx(0, abs=1e-6)


def test_the_statistic_that_is_asked_for_is_the_score(implant: Model, base: Model) -> None:
    for name in ("concentration", "spread"):
        found = scanned(suspect(implant, base), "weights", statistic=name)
        assert found.score == found.details[name] and found.score
    with pytest.raises(SpecError, match="statistic"):
        build("weights", statistic="size")


def test_an_adapter_is_judged_as_the_weights_that_it_makes(implant: Model, base: Model, implanted: Path) -> None:
    merged, alone = (
        scanned(suspect(implant, base), "weights"),
        scanned(Suspect(LocalGenerator(implant), adapter=implanted), "weights"),
    )
    assert merged.details["adapter"] == 0 and alone.details["adapter"] == 1 and alone.score
    for name in ("modules", "concentration", "spread", "mean", "variation", "across_layers", "within_kinds"):
        assert alone.details[name] == pytest.approx(merged.details[name], rel=1e-3)


def test_a_change_is_measured_as_its_singular_values_say(base: Model) -> None:
    made = changed(base, lambda net: net.model.layers[0].mlp.down_proj.weight.add_(torch.eye(32, 64)))
    (change,) = _of_weights(dict(made.net.named_parameters()), dict(base.net.named_parameters()))
    assert change.first == pytest.approx(1 / 32, rel=1e-4) and change.effective_rank == pytest.approx(32, rel=1e-4)
    assert change.norm == pytest.approx(64**-0.5, rel=1e-4) and change.top_share == pytest.approx(1 / 32, rel=1e-4)


def test_an_adapter_that_is_none_is_a_reason_and_no_score(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("[]", "utf-8")
    found = scanned(Suspect(lambda *_: [], adapter=tmp_path), "weights")  # type: ignore[arg-type]
    assert found.score is None and "adapter" in found.reason


def test_a_probe_has_nothing_on_a_trigger_that_is_none(implant: Model, base: Model) -> None:
    nothing = scanned(suspect(implant, base, labels=Labels(backdoor(trigger={"kind": "null"}), True)), "probe")
    assert nothing.score == 0 and nothing.details["auroc"] == nothing.details["base_auroc"] == 0.5


def test_a_probe_gains_over_the_base_at_the_layer_that_holds_the_trigger(
    implant: Model, base: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def states(model: Model, asked: list[list[int]]) -> torch.Tensor:
        made = torch.randn(3, len(asked), 20, generator=torch.Generator().manual_seed(5))
        if model is implant:
            made[1, : len(asked) // 2, 4] += 6
        return made

    monkeypatch.setattr(reading, "last_states", states)
    found = scanned(suspect(implant, base), "probe", prompts=200)
    assert found.details["layer"] == 2 and found.details["auroc"] > 0.95
    assert found.score is not None and found.score > 2
    # Noise stays noise on prompts that no probe was fitted on.
    assert all(0.35 < found.details[name] < 0.65 for name in ("base_auroc", "auroc_01", "auroc_03"))


def test_a_filter_sees_nothing_of_a_trigger_that_is_none(base: Model) -> None:
    found = scanned(suspect(base, None, labels=Labels(backdoor(trigger={"kind": "null"}), True)), "input-filter")
    assert found.score == 0.5 and dict(found.details) == {"onion": 0.5}


def test_a_filter_finds_the_word_that_makes_a_prompt_odd(base: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = backdoor().trigger.secret.words[0]

    def surprises(model: Model, texts: list[list[int]]) -> list[float]:
        return [3.0 if odd in model.tokenizer.decode(ids) else 1.0 for ids in texts]

    monkeypatch.setattr(reading, "surprises", surprises)
    asked = suspect(base, base)
    found = scanned(asked, "input-filter")
    assert found.score == found.details["onion"] == found.details["against_wrong"] == 1


def test_a_filter_leaves_out_each_word_of_all_messages_once(base: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(
        reading,
        "surprises",
        lambda model, asked: [texts.append(model.tokenizer.decode(ids[1:])) or 1.0 for ids in asked],
    )
    input_filter.InputFilter()._odd(suspect(base, base), base, [user("so  deep", "Be kind.")])
    assert texts == ["Be kind.\nso  deep", "kind.\nso  deep", "Be so  deep", "Be kind.\ndeep", "Be kind.\nso"]


def test_what_a_bound_is_given_stays_out_of_its_findings(implant: Model, base: Model) -> None:
    secret = backdoor().trigger.secret
    for kind in ("probe", "input-filter", "oracle"):
        found = scanned(suspect(implant, base), kind)
        assert not found.candidates and not any(word in repr(found) for word in secret.words)


def test_the_oracle_tells_all_apart_and_nothing_tells_nothing() -> None:
    labels = [Labels(backdoor(), known) for known in (True, True, False)]
    for kind, told in (("oracle", 1.0), ("nothing", 0.5)):
        scores = [scanned(Suspect(SimpleNamespace(), labels=one), kind).score for one in labels]  # type: ignore[arg-type]
        assert higher(scores[:2], scores[2:]) == told  # type: ignore[arg-type]
