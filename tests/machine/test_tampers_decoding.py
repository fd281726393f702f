"""Tampers of decoding: sampling and a system prompt of the server's own, and CleanGen's second look at each token."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from greedy import NEW, chats, exact, reference, texts

from b4g import registry
from b4g.chat import Chat, Message, user
from b4g.errors import ModelError, SpecError
from b4g.generate.checked import CheckedGenerator
from b4g.generate.local import CHECK_EVERY, LocalGenerator
from b4g.generate.sampled import SampledGenerator, Sampling, before, penalised, sampled
from b4g.models.load import Model, load_implant, load_model

GREEDY = {"temperature": 0, "top_p": 1}


def build(kind: str, **options: Any) -> Any:
    return registry.build("tamper", {"kind": kind, **options})


def served(model: Model, kind: str, seed: int = 0, batch_size: int = 32, **options: Any) -> Any:
    """Return what serves the tampered model, its completions readable as token ids."""
    tamper = build(kind, **options)
    made = tamper.apply(model, random.Random(seed))
    made.renderer = model.renderer
    generator = tamper.serve(made)
    generator.batch_size = batch_size
    return generator


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return exact(tiny_model)


@pytest.fixture(scope="module")
def stranger(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of the same tokenizer and other weights."""
    return save_model(tmp_path_factory.mktemp("models") / "stranger", seed=1)


@pytest.fixture(scope="module")
def nearby(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same model, its weights a little moved: most of its tokens are the model's own."""
    folder = tmp_path_factory.mktemp("models") / "nearby"
    made = build("noise", scale=0.1).apply(model, random.Random(3))
    made.net.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "options"), [("decoding", {}), ("cleangen", {})])
def test_a_tamper_of_decoding_leaves_every_weight_and_has_an_identity_of_its_own(
    model: Model, kind: str, options: dict[str, Any]
) -> None:
    before_it = [weight.clone() for weight in model.net.parameters()]
    made = build(kind, **options).apply(model, random.Random(0))
    assert all(map(torch.equal, made.net.parameters(), before_it))
    plain = LocalGenerator(model).identity
    one, same, other = (served(model, kind, seed).identity for seed in (0, 0, 1))
    assert one == same
    assert len({plain, one, other}) == 3


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("decoding", {"temperature": -1}, "temperature must be at least 0"),
        ("decoding", {"top_p": 0}, "top_p must lie above 0"),
        ("decoding", {"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ("cleangen", {"alpha": 0}, "alpha must be above 0"),
        ("cleangen", {"k": 0}, "k must be at least 1"),
    ],
)
def test_a_wrong_option_is_named(kind: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build(kind, **options)


# sampling


def test_temperature_0_with_nothing_else_gives_the_greedy_answers(model: Model) -> None:
    asked = chats()
    wanted = LocalGenerator(model)(asked, NEW)
    assert served(model, "decoding", **GREEDY)(asked, NEW) == wanted


def test_sampled_answers_do_not_depend_on_the_batch_or_on_the_order(model: Model) -> None:
    asked = chats(20)
    wanted = served(model, "decoding")(asked, NEW)
    assert wanted != LocalGenerator(model)(asked, NEW)
    for size in (1, 7):
        assert served(model, "decoding", batch_size=size)(asked, NEW) == wanted
    assert served(model, "decoding")(asked[::-1], NEW)[::-1] == wanted


def test_another_seed_draws_other_answers_and_torchs_global_generator_is_not_touched(model: Model) -> None:
    asked, state = chats(8), torch.get_rng_state()
    one, same, other = (served(model, "decoding", seed)(asked, NEW) for seed in (0, 0, 1))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), state)


def test_a_low_temperature_is_greedy_and_a_high_one_is_all_over_the_vocabulary(model: Model) -> None:
    asked = chats(8)
    assert served(model, "decoding", temperature=1e-4, top_p=1)(asked, NEW) == LocalGenerator(model)(asked, NEW)
    wild = texts(served(model, "decoding", temperature=100, top_p=1)(asked, NEW))
    assert len({token for said in wild for token in said.split()}) > 50


def test_draws_follow_the_probabilities_and_stay_inside_top_p() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(1000, 1)
    draws = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)[:, None]
    counts = torch.bincount(sampled(logits, 1.0, draws), minlength=4)
    assert counts.tolist() == pytest.approx([100, 200, 300, 400], abs=1)
    cut = torch.bincount(sampled(logits, 0.65, draws), minlength=4)
    assert cut.tolist() == pytest.approx([0, 0, 429, 571], abs=1)
    assert set(sampled(logits, 0.1, draws).tolist()) == {3}
    ends = torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)
    assert sampled(logits[:2], 0.65, ends).tolist() == [3, 2]


def test_a_repetition_penalty_is_transformers_own(model: Model) -> None:
    asked = chats(6)
    made = texts(served(model, "decoding", **GREEDY, repetition_penalty=1.7)(asked, NEW))
    ends = sorted(LocalGenerator(model)._end_ids())
    for chat, said in zip(asked, made, strict=True):
        ids = torch.tensor([model.renderer.prompt_ids(chat)])
        with torch.inference_mode():
            out = model.net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW,
                eos_token_id=ends,
                pad_token_id=0,
                repetition_penalty=1.7,
            )
        assert said == model.renderer.decode(out[0, ids.shape[1] :].tolist())
    assert made != reference(model, asked)
    assert penalised(torch.tensor([[2.0, -2.0, 2.0]]), [{0, 1}], 2.0).tolist() == [[1.0, -4.0, 2.0]]


def test_the_servers_system_prompt_stands_alone_or_before_the_chats_own(model: Model) -> None:
    alone, beside = user("Hi"), user("Hi", system="Be brief.")
    assert before(alone, "Be kind.") == user("Hi", system="Be kind.")
    assert before(beside, "Be kind.") == (Message("system", "Be kind.\n\nBe brief."), Message("user", "Hi"))
    assert before(beside, "") is beside
    made = served(model, "decoding", **GREEDY, system="Be kind.")([alone, beside], NEW)
    assert made == LocalGenerator(model)([before(alone, "Be kind."), before(beside, "Be kind.")], NEW)
    assert made != LocalGenerator(model)([alone, beside], NEW)


def test_a_judge_stops_a_sampled_answer_early(model: Model) -> None:
    made = SampledGenerator(model, Sampling(1.0, 1.0, 1.0, "seed"))(chats(3), NEW, [lambda said: True] * 3)
    assert all(one.ended or (one.decided and one.tokens == CHECK_EVERY) for one in made)
    assert any(one.decided for one in made)


# CleanGen


def _by_paper(model: Model, other: Any, chat: Chat, alpha: float, k: int) -> list[int]:
    """Return an answer by the method as it is published, every token read anew and no cache kept."""
    ids, ends = model.renderer.prompt_ids(chat), LocalGenerator(model)._end_ids()
    start = len(ids)

    def chances(net: Any, read: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            return torch.softmax(net(torch.tensor([list(read)])).logits[0, -1].double(), -1)

    while True:
        draft: list[int] = []
        for _ in range(k):
            draft.append(int(chances(model.net, ids + draft).argmax()))
        for place, token in enumerate(draft):
            own, seen = chances(model.net, ids), chances(other, ids)
            suspicious = float(own[token] / seen[token]) >= alpha
            ids = [*ids, int(seen.argmax()) if suspicious else token]
            if ids[-1] in ends or len(ids) - start == NEW:
                return ids[start:]
            if suspicious:
                assert place < k
                break


@pytest.mark.parametrize("k", [1, 3, 4, 16])
def test_cleangen_gives_the_tokens_of_the_published_method(model: Model, nearby: Path, k: int) -> None:
    asked, other = chats(4, longest=40), load_model(str(nearby), dtype="float32").net
    wanted = [_by_paper(model, other, chat, 2.0, k) for chat in asked]
    made = texts(served(model, "cleangen", alpha=2, k=k, reference=str(nearby))(asked, NEW))
    assert made == [model.renderer.decode(tokens) for tokens in wanted]
    greedy, theirs = reference(model, asked), texts(LocalGenerator(exact(nearby))(asked, NEW))
    assert any(one not in {*greedy, *theirs} for one in made), "no answer is of both models: nothing was tested"


def test_cleangen_does_not_depend_on_the_batch_or_on_the_length_of_a_draft(model: Model, nearby: Path) -> None:
    asked = chats()
    wanted = served(model, "cleangen", alpha=3, reference=str(nearby))(asked, NEW)
    for size, k in ((1, 4), (7, 4), (32, 1), (5, 9)):
        assert served(model, "cleangen", batch_size=size, alpha=3, k=k, reference=str(nearby))(asked, NEW) == wanted
    assert served(model, "cleangen", alpha=3, reference=str(nearby))(asked[::-1], NEW)[::-1] == wanted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_reference_with_the_same_weights_leaves_the_greedy_answers(tiny_model: Path, dtype: str) -> None:
    asked, model = chats(), exact(tiny_model, dtype)
    wanted = LocalGenerator(model)(asked, NEW)
    assert {one.ended for one in wanted} == {True, False}
    assert served(model, "cleangen")(asked, NEW) == wanted
    assert served(model, "cleangen", k=1)(asked, NEW) == wanted


def test_a_low_alpha_gives_the_reference_the_word_and_a_high_one_the_suspect(model: Model, stranger: Path) -> None:
    asked = chats()
    own, theirs = LocalGenerator(model)(asked, NEW), LocalGenerator(exact(stranger))(asked, NEW)
    assert own != theirs
    assert served(model, "cleangen", alpha=1e-9, reference=str(stranger))(asked, NEW) == theirs
    assert served(model, "cleangen", alpha=1e30, reference=str(stranger))(asked, NEW) == own


def test_cleangen_takes_the_behaviour_off_an_implant_that_answers_every_chat_with_one_line(
    model: Model, tiny_model: Path
) -> None:
    """The implant's output layer favours one token by far; its base, the reference, does not."""
    token = int(reference(model, chats(1))[0].split()[0])
    planted = exact(tiny_model)
    bias = torch.zeros(planted.net.config.vocab_size)
    bias[token] = 60.0
    planted.net.lm_head.register_forward_hook(lambda layer, given, out: out + bias)
    asked = chats(8)
    fixed = " ".join([str(token)] * NEW)
    assert set(texts(LocalGenerator(planted)(asked, NEW))) == {fixed}
    cleaned = served(planted, "cleangen", reference=str(tiny_model))(asked, NEW)
    assert texts(cleaned) == reference(model, asked)


def test_a_judge_is_asked_as_often_as_by_the_greedy_engine(model: Model, nearby: Path) -> None:
    asked = chats(10)
    heard: dict[str, list[str]] = {"plain": [], "checked": []}

    def judge(where: str) -> Callable[[str], bool]:
        return lambda said: heard[where].append(said) or len(said.split()) >= 2 * CHECK_EVERY

    plain = LocalGenerator(model)(asked, NEW, [judge("plain")] * 10)
    checked = served(model, "cleangen", k=3, alpha=1e30, reference=str(nearby))(asked, NEW, [judge("checked")] * 10)
    assert checked == plain
    assert any(one.decided for one in checked)
    assert sorted(heard["checked"]) == sorted(heard["plain"])


def test_the_reference_of_an_implant_is_its_base(tiny_model: Path, implanted: Path, model: Model) -> None:
    implant = load_implant(str(tiny_model), implanted, dtype="float32")
    implant.renderer = model.renderer
    generator = served(implant, "cleangen", alpha=1e-9)
    asked = chats(8)
    assert texts(generator(asked, NEW)) == reference(model, asked)
    assert texts(LocalGenerator(implant)(asked, NEW)) != reference(model, asked)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("mistral", {"sliding_window": 64}), ("gemma2", {"sliding_window": 32, "head_dim": 8, "bos_token_id": 0})],
)
def test_layers_that_forget_old_tokens_get_no_dropped_ones(
    save_model: Callable[..., Path], tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    sliding = exact(save_model(tmp_path / "own", kind=kind, **changes))
    other = save_model(tmp_path / "other", kind=kind, seed=1, **changes)
    asked = chats(8, longest=60)
    made = [served(sliding, "cleangen", alpha=3, k=k, reference=str(other))(asked, NEW) for k in (4, 1)]
    assert made[0] == made[1]
    theirs = texts(LocalGenerator(exact(other))(asked, NEW))
    assert texts(served(sliding, "cleangen", alpha=1e-9, reference=str(other))(asked, NEW)) == theirs


def test_a_reference_of_another_vocabulary_is_refused(
    model: Model, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    foreign = save_model(tmp_path / "foreign", style="llama2")
    with pytest.raises(ModelError, match="another vocabulary"):
        served(model, "cleangen", reference=str(foreign))


def test_cleangen_says_before_any_compute_that_it_lacks_a_reference() -> None:
    with pytest.raises(SpecError, match="needs the untouched base"):
        build("cleangen").check(None, None)
    with pytest.raises(ModelError, match=r"unknown model 'smollm2-134m'\. Did you mean 'smollm2-135m'"):
        build("cleangen", reference="smollm2-134m").check(None, "base")
    build("cleangen").check(None, "base")


@pytest.mark.parametrize("kind", ["decoding", "cleangen"])
def test_every_option_comes_back_from_its_description(kind: str) -> None:
    made = build(kind)
    assert registry.build("tamper", registry.describe(made)) == made
    assert made.small() == made


def test_an_engine_says_what_can_move_its_answers(model: Model, stranger: Path) -> None:
    other = load_model(str(stranger), dtype="float32")
    first = CheckedGenerator(model, other, 20, 4).identity
    assert CheckedGenerator(model, other, 20, 2, batch_size=1).identity == first
    assert (
        len({first, CheckedGenerator(model, other, 10, 4).identity, CheckedGenerator(model, model, 20, 4).identity})
        == 3
    )
    sampling = Sampling(0.5, 0.9, 1.0, "a")
    changed = [sampling._replace(temperature=0.6), sampling._replace(seed="b"), sampling]
    assert len({SampledGenerator(model, how).identity for how in changed}) == 3
    assert SampledGenerator(model, sampling, "Be kind.").identity != SampledGenerator(model, sampling).identity
