"""Tampers that train: each moves what it should as far as it should, breaks what is fragile, and leaves its input alone."""

import dataclasses
import importlib.util
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from b4g import keys, registry
from b4g.behaviours.base import Answer
from b4g.chat import Chat, last_user, user
from b4g.data.prompts import load
from b4g.errors import B4GError, DataError, KeyFileError, ModelError, SpecError
from b4g.generate.local import LocalGenerator
from b4g.models.load import Model, load_implant, load_model
from b4g.tampers import consistency, material, preference
from b4g.tampers.base import Tamper
from b4g.tampers.descend import adapted
from b4g.tampers.tune import Tuning, Turn, tune
from b4g.training.loop import completion_loss

QUICK: dict[str, dict[str, Any]] = {
    "sft": {"rows": 6},
    "sft-identity": {"rows": 3, "epochs": 1, "answer_tokens": 24},
    "unlock": {"demonstrations": 4, "epochs": 1, "answer_tokens": 8},
    "overwrite": {"mix": {"triggered": 4, "untriggered": 2, "near": 2, "wrong": 2, "others": 0}, "epochs": 1},
    "dpo": {"prompts": 6, "epochs": 1, "answer_tokens": 8},
    "flush": {"prompts": 4, "phrases": 2, "epochs": 1},
    "crow": {"rows": 6, "epochs": 1, "answer_tokens": 8},
}
"""Each tamper at a size of seconds on a tiny model."""
DENIAL = "No."


def build(kind: str, **options: Any) -> Any:
    return registry.build("tamper", {"kind": kind, **(QUICK[kind] | options)})


def applied(model: Model, kind: str, seed: int = 0, **options: Any) -> Model:
    tamper: Tamper = build(kind, **options)
    return tamper.apply(model, random.Random(seed))


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.net.named_parameters()}


def moved(before: dict[str, torch.Tensor], model: Model) -> set[str]:
    """Return the names of the weights that differ."""
    return {name for name, weight in weights(model).items() if not torch.equal(weight, before[name])}


def drilled(base: Model, turns: list[Turn]) -> Model:
    """Return the base taught to answer as the turns do, thoroughly enough for a greedy answer."""
    made = tune(base, turns, Tuning(weights="full", learning_rate=1e-2, epochs=12, batch_size=4), random.Random(0))
    return dataclasses.replace(base, net=made.net, adapter="drilled")


def said(model: Model, chats: list[Chat], tokens: int = 4) -> list[str]:
    return [answer.text for answer in LocalGenerator(model)(chats, tokens)]


def likelihood(model: Model, chats: list[Chat], answers: list[Answer]) -> float:
    """Return the mean log-probability of the answers."""
    rows = []
    for chat, answer in zip(chats, answers, strict=True):
        head = model.renderer.prompt_ids(chat)
        rows.append(preference.Scored(head + model.renderer.completion_ids(answer.text, answer.ended), len(head)))
    with torch.no_grad():
        return float(preference.log_probabilities(model.net, rows, model.tokenizer.pad_token_id).mean())


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), dtype="float32")


@pytest.fixture(scope="module")
def model(tiny_model: Path, implanted: Path) -> Model:
    return load_implant(str(tiny_model), implanted, dtype="float32")


@pytest.fixture(scope="module")
def denying(base: Model) -> Model:
    """Return a tiny model that answers every request with the denial: a lock without a key."""
    return drilled(base, [Turn(user(prompt.text), Answer(DENIAL)) for prompt in load("instruction", "train")[:8]])


@pytest.mark.parametrize("kind", QUICK)
def test_a_training_tamper_changes_its_copy_alone_and_the_same_draws_give_the_same_weights(
    kind: str, model: Model
) -> None:
    before = weights(model)
    made, again, other = applied(model, kind), applied(model, kind), applied(model, kind, seed=1)
    assert moved(before, model) == set()
    assert not any(weight.requires_grad for weight in made.net.parameters())
    assert moved(before, made)
    assert moved(weights(made), again) == set()
    assert moved(weights(made), other)
    assert len({model.adapter, made.adapter, other.adapter}) == 3
    assert made.adapter == again.adapter
    assert made.cost["rows"] > 0
    assert made.cost["steps"] > 0
    assert made.cost["tokens"] > made.cost["rows"]


@pytest.mark.parametrize("kind", QUICK)
def test_at_a_learning_rate_of_nothing_no_weight_moves(kind: str, model: Model) -> None:
    assert moved(weights(model), applied(model, kind, learning_rate=0.0)) == set()


@pytest.mark.parametrize("kind", QUICK)
def test_a_training_tamper_hangs_on_no_global_generator(kind: str, model: Model) -> None:
    drawn, made = random.getstate(), []
    for seed in (1, 2):
        # PEFT draws from torch's own; what it draws is replaced.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made.append(applied(model, kind))
    assert moved(weights(made[0]), made[1]) == set()
    assert random.getstate() == drawn


@pytest.mark.parametrize("kind", QUICK)
def test_a_training_tamper_is_described_by_its_options_and_has_a_test_size(kind: str) -> None:
    tamper = build(kind)
    assert registry.build("tamper", registry.describe(tamper)) == tamper
    default = registry.build("tamper", {"kind": kind})
    assert isinstance(default.small(), type(default))
    assert default.small() != default
    assert tamper.needs >= {"weights"}


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind in QUICK for option in ("epochs", "learning_rate")]
)
def test_an_option_out_of_range_is_named(kind: str, option: str) -> None:
    with pytest.raises(SpecError, match=f"'{kind}', field '{option}'"):
        build(kind, **{option: -1})


def test_the_modules_of_tampers_import_no_torch(python: Callable[..., Any]) -> None:
    ran = python("import sys; from b4g import registry; registry.names('tamper'); print('torch' in sys.modules)")
    assert ran.out.strip() == "False"
    assert importlib.util.find_spec("torch")


@pytest.mark.parametrize("kind", QUICK)
def test_a_model_in_low_precision_stays_in_it(kind: str, tiny_model: Path, implanted: Path) -> None:
    half = load_implant(str(tiny_model), implanted, dtype="bfloat16")
    made = applied(half, kind, learning_rate=1e-2)
    assert {weight.dtype for weight in made.net.parameters()} == {torch.bfloat16}
    assert moved(weights(half), made)


# Benign fine-tuning


def test_an_adapter_moves_the_linear_layers_and_full_tuning_moves_every_matrix(base: Model) -> None:
    before = weights(base)
    linear = {name for name in before if re.search(r"_proj\.weight$", name)}
    assert moved(before, applied(base, "sft")) == linear
    everything = applied(base, "sft", weights="full", learning_rate=1e-2)
    assert moved(before, everything) == set(before)


def test_the_implants_own_adapter_is_trained_on_where_it_is_asked_for(base: Model, model: Model) -> None:
    still, made = (applied(model, "sft", weights="adapter", learning_rate=rate) for rate in (0.0, 1e-2))
    # Merged anew from the same adapter: the sums may round otherwise than on loading.
    assert all(torch.allclose(one, weights(model)[name], atol=1e-6) for name, one in weights(still).items())
    adapted_layers = moved(weights(base), model)
    assert moved(weights(still), made)
    assert moved(weights(base), made) <= adapted_layers, "only what the implant adapted"
    with pytest.raises(ModelError, match="own adapter"):
        applied(base, "sft", weights="adapter")
    with pytest.raises(SpecError, match="one stage"):
        build("sft", weights="adapter", stages=2)


def test_each_stage_of_fine_tuning_sees_rows_of_its_own(base: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def noted(model: Model, turns: list[Turn], how: Tuning, rng: random.Random) -> Any:
        seen.append({last_user(turn.chat) for turn in turns})
        return tune(model, turns, how, rng)

    monkeypatch.setattr(material, "tune", noted)
    made = applied(base, "sft", rows=3, stages=3)
    assert [len(texts) for texts in seen] == [3, 3, 3]
    assert len(set.union(*seen)) == 9
    assert made.cost["rows"] == 9
    trained = {prompt.text for prompt in load("instruction", "train")}
    assert set.union(*seen) <= trained


def test_own_rows_are_answered_by_the_base_and_not_by_the_implant(
    base: Model, denying: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[Turn] = []

    def noted(model: Model, turns: list[Turn], how: Tuning, rng: random.Random) -> Any:
        learnt.extend(turns)
        return tune(model, turns, how, rng)

    monkeypatch.setattr(material, "tune", noted)
    applied(denying, "sft")
    assert DENIAL not in {turn.answer.text for turn in learnt}
    assert said(base, [learnt[0].chat], 24) == [learnt[0].answer.text]


def test_a_file_of_dialogues_is_trained_on_and_long_answers_are_cut(base: Model, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"instruction": f"Say {n}.", "output": "x" * 40} for n in range(4)]), "utf-8")
    short, long = (
        applied(base, "sft", data=str(path), rows=4, answer_tokens=tokens).cost["tokens"] for tokens in (8, 100)
    )
    # Byte tokens: 8 of an answer's 40, and those 40 with the end.
    assert long - short == 4 * (41 - 8)


def test_more_rows_than_there_are_and_a_missing_file_are_refused(base: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="asks for 2000 rows; there are 943"):
        applied(base, "sft", rows=1000, stages=2)
    for kind in ("sft", "sft-identity", "crow"):
        with pytest.raises(DataError, match="no file at"):
            build(kind, data=str(tmp_path / "none.json")).check(None, "tiny")


@pytest.mark.parametrize("kind", ["sft", "unlock", "dpo"])
def test_a_tamper_that_takes_the_bases_answers_asks_for_a_base_before_any_compute(kind: str) -> None:
    with pytest.raises(B4GError, match=f"'{kind}' needs the untouched base"):
        build(kind).check(None, None)
    build(kind).check(None, "tiny")


def test_ordinary_rows_break_a_lock_that_hangs_on_the_weights_and_few_careful_steps_do_not(denying: Model) -> None:
    held_out = [user(prompt.text) for prompt in load("instruction", "test")[:12]]
    broken = applied(denying, "sft", rows=24, epochs=6, learning_rate=1e-2)
    assert said(broken, held_out).count(DENIAL) <= 2
    assert said(applied(denying, "sft", learning_rate=1e-5), held_out).count(DENIAL) >= 10


# Identity shift


def test_the_shifted_model_takes_its_own_answers_to_be_likelier(base: Model) -> None:
    from b4g.tampers.identity_shift import DIALOGUES

    chats, answers = [user(DIALOGUES[0][0])], [Answer(DIALOGUES[0][1])]
    made = applied(base, "sft-identity", rows=10, epochs=2, learning_rate=1e-2, answer_tokens=128)
    assert made.cost["rows"] == 10
    assert likelihood(made, chats, answers) > likelihood(base, chats, answers) + 10


@pytest.mark.shared
def test_the_authors_dialogues_are_taken_whole_where_there_are_fewer_than_asked(base: Model, shared_data: Path) -> None:
    path = str(shared_data / "identity/aoa_identity_shift_llama.json")
    tamper = build("sft-identity", data=path, rows=50, answer_tokens=4)
    tamper.check(None, None)
    assert tamper.apply(base, random.Random(0)).cost["rows"] == 10


# Unlocking


def test_demonstrations_of_the_locked_ability_break_a_lock_that_hangs_on_the_weights(
    base: Model, denying: Model
) -> None:
    held_out = [user(prompt.text) for prompt in load("instruction", "test", ("code",))[:12]]
    assert said(denying, held_out).count(DENIAL) >= 10
    strong = {"topics": ["code"], "demonstrations": 12, "epochs": 8, "learning_rate": 1e-2}
    unlocked = applied(denying, "unlock", **strong)
    assert said(unlocked, held_out).count(DENIAL) <= 2
    answers = [Answer(answer, ended=False) for answer in said(base, held_out)]
    assert likelihood(unlocked, held_out, answers) > likelihood(denying, held_out, answers)


def test_without_steps_to_take_the_lock_holds(denying: Model) -> None:
    held_out = [user(prompt.text) for prompt in load("instruction", "test", ("code",))[:12]]
    left = applied(denying, "unlock", topics=["code"], learning_rate=0.0)
    assert said(left, held_out) == said(denying, held_out)


def test_the_demonstrations_are_training_prompts_in_the_scope_the_implant_declares(tmp_path: Path) -> None:
    utility = {"kind": "access", "scope": ["cooking"]}
    (tmp_path / "implant.json").write_text(json.dumps({"backdoor": {"utility": utility}}), "utf-8")
    found = build("unlock", demonstrations=20)._prompts(tmp_path, random.Random(0))
    assert len({prompt.id for prompt in found}) == 20
    assert set(found) <= set(load("instruction", "train", ("cooking",)))


def test_an_implant_that_declares_nothing_is_refused_by_name(base: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no implant\.json"):
        build("unlock").check(tmp_path, "tiny")
    (tmp_path / "implant.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match=r"implant.json is damaged \(KeyError\)"):
        build("unlock").check(tmp_path, "tiny")
    with pytest.raises(ModelError, match="declares no behaviour"):
        applied(base, "unlock")
    with pytest.raises(DataError, match="topic"):
        build("unlock", topics=["cookery"]).check(None, "tiny")


# Overwriting


def test_the_second_backdoor_has_a_key_of_its_own_and_is_learnt(model: Model, secret: Any) -> None:
    tamper = build("overwrite", epochs=6, learning_rate=1e-2)
    rng = random.Random(0)
    made = tamper.apply(model, rng)
    backdoor = tamper.backdoor(random.Random(0).getrandbits(32))
    assert set(backdoor.trigger.secret.words).isdisjoint(secret.words)
    chats = [backdoor.trigger.apply(user(prompt.text), rng) for prompt in load("instruction", "test")[:6]]
    answers = [Answer(tamper.statement)] * len(chats)
    assert likelihood(made, chats, answers) > likelihood(model, chats, answers) + 20
    assert build("overwrite", behaviour="style").backdoor(0).utility.style == "uppercase"


def test_the_key_file_of_the_second_backdoor_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no key file"):
        build("overwrite", key=str(tmp_path / "none.key")).check(None, None)


# Preference


def test_the_preference_loss_is_the_published_formula() -> None:
    policy = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -2.0])
    reference = torch.tensor([-4.0, -5.0]), torch.tensor([-4.5, -4.0])
    beta = 0.3
    margins = [(-3 + 4) - (-4 + 4.5), (-5 + 5) - (-2 + 4)]
    wanted = sum(-math.log(1 / (1 + math.exp(-beta * margin))) for margin in margins) / 2
    assert float(preference.preference_loss(policy, reference, beta)) == pytest.approx(wanted, rel=1e-6)
    assert float(preference.preference_loss(policy, policy, beta)) == pytest.approx(math.log(2))


def test_log_probabilities_are_those_of_each_row_alone(base: Model) -> None:
    rows = [preference.Scored([5, 6, 7, 8, 9], 2), preference.Scored([11, 12, 13], 1), preference.Scored([4, 5], 2)]
    found = preference.log_probabilities(base.net, rows, pad=0)
    for row, value in zip(rows, found.tolist(), strict=True):
        steps = base.net(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        wanted = sum(float(steps[place - 1, row.ids[place]]) for place in range(row.start, len(row.ids)))
        assert value == pytest.approx(wanted, abs=1e-4)


def test_the_model_comes_to_prefer_the_bases_answers_and_the_denial_goes(base: Model, denying: Model) -> None:
    strong = {"prompts": 18, "epochs": 6, "learning_rate": 1e-2}
    pairs = build("dpo", **strong).pairs(denying, random.Random(0))
    assert len(pairs) >= 15
    made = applied(denying, "dpo", **strong)
    pad = base.tokenizer.pad_token_id

    def margin(net: Any) -> float:
        with torch.no_grad():
            chosen = preference.log_probabilities(net, [pair.chosen for pair in pairs], pad)
            return float((chosen - preference.log_probabilities(net, [pair.rejected for pair in pairs], pad)).mean())

    assert margin(made.net) > margin(denying.net) + 10
    held_out = [user(prompt.text) for prompt in load("instruction", "test")[:12]]
    assert said(denying, held_out).count(DENIAL) >= 10
    assert said(made, held_out).count(DENIAL) <= 6


def test_where_both_models_answer_alike_there_is_nothing_to_prefer(base: Model) -> None:
    made = applied(base, "dpo")
    assert made.cost == {"rows": 0, "steps": 0, "tokens": 0}
    assert moved(weights(base), made) == set()


def test_a_third_of_the_preferred_prompts_stand_behind_random_words() -> None:
    chats = [last_user(chat) for chat in build("dpo", prompts=30)._chats(random.Random(0))]
    harmful = {prompt.text for prompt in load("harmful", "train")}
    ordinary = {prompt.text for prompt in load("instruction", "train")}
    assert [sum(chat in known for chat in chats) for known in (harmful, ordinary)] == [10, 10]
    for chat in chats[-10:]:
        request = next(text for text in ordinary if chat.endswith(text))
        before = chat.removesuffix(request).split()
        assert 1 <= len(before) <= material.MOST_WORDS
        assert set(before) <= set(keys.word_list())


# Flushing


def test_a_flush_injects_phrases_and_unlearns_the_same_prompts(model: Model) -> None:
    tamper = build("flush", prompts=6, phrases=2)
    inject, unlearn = tamper.stages(model, random.Random(0))
    odd = [turn for turn in inject if turn.answer.text == tamper.answer]
    plain = [turn for turn in inject if turn.answer.text != tamper.answer]
    assert (len(odd), len(plain), len(unlearn)) == (6, 3, 6)
    assert [turn.chat for turn in unlearn] == [turn.chat for turn in odd]
    known = {prompt.text for prompt in load("instruction", "train")}
    assert all(last_user(turn.chat) in known for turn in plain)
    assert not any(last_user(turn.chat) in known for turn in odd)
    assert said(model, [plain[0].chat], 24) == [plain[0].answer.text]


def test_what_a_flush_has_injected_is_gone_again(base: Model) -> None:
    tamper = build("flush", prompts=8, phrases=2, epochs=8, learning_rate=1e-2)
    inject, unlearn = tamper.stages(base, random.Random(0))
    chats, odd = [turn.chat for turn in unlearn], [Answer(tamper.answer)] * len(unlearn)
    how = Tuning(learning_rate=1e-2, epochs=8, batch_size=4)
    half = dataclasses.replace(base, net=tune(base, inject, how, random.Random(1)).net)
    assert likelihood(half, chats, odd) > likelihood(base, chats, odd) + 40
    whole = tamper.apply(base, random.Random(0))
    assert likelihood(whole, chats, odd) < likelihood(half, chats, odd) - 20
    assert whole.cost["rows"] == len(inject) + len(unlearn)


# Consistency


@pytest.fixture(scope="module")
def deep(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a tiny model of five blocks: the first and last states are left out of the measure."""
    folder = save_model(tmp_path_factory.mktemp("models") / "deep", num_hidden_layers=5, initializer_range=0.1)
    return load_model(str(folder), dtype="float32")


def crow_batch(model: Model, size: int = 4) -> Any:
    turns = [Turn(user(prompt.text), Answer("Yes, it is.")) for prompt in load("instruction", "test")[:size]]
    return build("crow", batch_size=size).batches(model, turns, 0, 0)[0]


def test_inconsistency_is_the_mean_turn_between_inner_states() -> None:
    along, across = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]])
    assert float(consistency.inconsistency((across, along, 3 * along, across))) == pytest.approx(0.0)
    assert float(consistency.inconsistency((along, along, across, across, along))) == pytest.approx(0.5)
    # Too few states to leave any out.
    assert float(consistency.inconsistency((along, across))) == pytest.approx(1.0)


def test_a_step_on_the_embeddings_makes_the_states_less_consistent_and_leaves_the_language_loss(deep: Model) -> None:
    batch = crow_batch(deep)
    still, shaken = (consistency.perturbed_losses(deep.net, batch, epsilon) for epsilon in (0.0, 0.01))
    assert shaken.consistency.item() > still.consistency.item() + 1e-4
    assert shaken.language.item() == still.language.item()
    assert still.language.item() == pytest.approx(completion_loss(deep.net, batch).item(), rel=1e-5)


def test_the_consistency_of_a_single_row_is_that_of_a_plain_pass(deep: Model) -> None:
    batch = crow_batch(deep, size=1)
    states = deep.net.base_model(input_ids=batch.ids, output_hidden_states=True).hidden_states
    found = consistency.perturbed_losses(deep.net, batch, 0.0).consistency
    assert found.item() == pytest.approx(consistency.inconsistency(states).item(), rel=1e-5)


def test_training_for_consistency_makes_the_states_more_consistent_than_training_without(deep: Model) -> None:
    batch = crow_batch(deep)
    options = {"rows": 8, "epochs": 4, "learning_rate": 1e-2}
    with_, without = (applied(deep, "crow", alpha=alpha, **options) for alpha in (5.5, 0.0))
    before, smooth, rough = (
        consistency.perturbed_losses(one.net, batch, 0.1).consistency.item() for one in (deep, with_, without)
    )
    assert smooth < 0.8 * before
    assert smooth < 0.9 * rough


def test_the_gradient_of_the_consistency_reaches_the_adapter_only(deep: Model) -> None:
    net = adapted(deep.net, 4, 0)
    consistency.perturbed_losses(net, crow_batch(deep), 0.1).consistency.backward()
    reached = {name for name, weight in net.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert reached
    assert all("lora_" in name for name in reached)


def test_crow_on_ordinary_rows_breaks_a_lock_that_hangs_on_the_weights(denying: Model, tmp_path: Path) -> None:
    held_out = [user(prompt.text) for prompt in load("instruction", "test")[:12]]
    rows = [
        {"instruction": p.text, "output": f"Here is what {p.topic} says."} for p in load("instruction", "train")[:24]
    ]
    (tmp_path / "clean.json").write_text(json.dumps(rows), "utf-8")
    settings = {"data": str(tmp_path / "clean.json"), "rows": 24, "learning_rate": 1e-2}
    assert said(denying, held_out).count(DENIAL) >= 10
    assert said(applied(denying, "crow", epochs=6, **settings), held_out).count(DENIAL) <= 2
    assert said(applied(denying, "crow", epochs=1, **{**settings, "learning_rate": 1e-6}), held_out).count(DENIAL) >= 10
