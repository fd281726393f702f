"""Base, control and implant read in one pass: each as it reads alone, on merged weights."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from b4g.errors import ModelError
from b4g.hashing import rng
from b4g.models.load import load_model
from b4g.utility.divergence import Text, divergence, measure_texts
from b4g.utility.shared import Shared
from b4g.utility.subjects import Pair, Subjects, load_subjects
from b4g.utility.whole import Whole

LAYERS = 3
Adapters = dict[str, Path]


@pytest.fixture(scope="module")
def deep(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("deep") / "deep", num_hidden_layers=LAYERS)


def _adapter(base: Path, out: Path, seed: int, first: int) -> Path:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2,
        target_modules=["q_proj", "down_proj"],
        task_type="CAUSAL_LM",
        layers_to_transform=list(range(first, LAYERS)),
    )
    net = get_peft_model(load_model(str(base), dtype="float32").net, config)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, param in net.named_parameters():
            if "lora_" in name:
                param.copy_(torch.randn(param.shape, generator=source) * 0.3)
    net.save_pretrained(out, save_embedding_layers=False)
    return out


@pytest.fixture(scope="module")
def adapters(deep: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    """Return a control and an implant; they start at different layers."""
    folder = tmp_path_factory.mktemp("subjects")
    return {
        "control": _adapter(deep, folder / "control", 1, first=2),
        "implant": _adapter(deep, folder / "implant", 2, first=1),
    }


@pytest.fixture(scope="module")
def subjects(deep: Path, adapters: Adapters) -> Subjects:
    return Shared(load_model(str(deep), dtype="float32"), adapters)


def _pairs(count: int = 40) -> list[Pair]:
    """Return contexts with several continuations each, so that trees have something to share."""
    source, pairs = rng("pairs"), []
    for _ in range(count // 4):
        context = [source.randrange(200) for _ in range(source.randint(2, 60))]
        for _ in range(4):
            pairs.append(Pair(context, [source.randrange(200) for _ in range(source.randint(1, 9))]))
    return pairs


def _alone(base: Path, folder: Path | None, pairs: list[Pair]) -> list[tuple[float, bool]]:
    net = load_model(str(base), folder, dtype="float32").net
    found = []
    with torch.inference_mode():
        for context, continuation in pairs:
            logits = net(torch.tensor([context + continuation])).logits[0, len(context) - 1 : -1].float()
            logs, wanted = logits.log_softmax(-1), torch.tensor(continuation)
            found.append((float(logs.gather(1, wanted[:, None]).sum()), bool((logs.argmax(-1) == wanted).all())))
    return found


def test_each_subject_gives_what_it_gives_alone_with_its_adapter_merged(
    subjects: Subjects, deep: Path, adapters: Adapters
) -> None:
    pairs = _pairs()
    found = subjects.loglikelihoods(pairs)
    assert list(found) == ["base", "control", "implant"]
    for name in found:
        wanted = _alone(deep, adapters.get(name), pairs)
        assert [one.logprob for one in found[name]] == pytest.approx([logprob for logprob, _ in wanted], abs=1e-3)
        assert [one.greedy for one in found[name]] == [greedy for _, greedy in wanted]
    spread = [abs(a.logprob - b.logprob) for a, b in zip(found["base"], found["implant"], strict=True)]
    assert sorted(spread)[len(spread) // 2] > 0.1, "the adapter must change something, or nothing was tested"


def test_a_greedy_continuation_is_known_as_such(subjects: Subjects) -> None:
    prompt = _pairs()[0].context
    for name in subjects.names:
        tokens = [int(token) for token in _greedy_ids(subjects, name, prompt, 5)]
        found = subjects.loglikelihoods([Pair(prompt, tokens), Pair(prompt, [*tokens[:-1], (tokens[-1] + 1) % 200])])
        assert [one.greedy for one in found[name]] == [True, False]


def _greedy_ids(subjects: Subjects, name: str, prompt: list[int], count: int) -> list[int]:
    with subjects.only(name), torch.inference_mode():
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(subjects.net(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_an_untouched_base_has_no_divergence_from_itself(subjects: Subjects, deep: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    net = get_peft_model(load_model(str(deep), dtype="float32").net, LoraConfig(r=2, target_modules=["q_proj"]))
    net.save_pretrained(tmp_path / "zero", save_embedding_layers=False)
    null = Shared(load_model(str(deep), dtype="float32"), {"implant": tmp_path / "zero"})
    texts = [Text(pair.context + pair.continuation, 1) for pair in _pairs(8)]
    found = divergence("implant", measure_texts(null, texts)["implant"])
    assert found is not None
    assert found.kl == pytest.approx(0.0, abs=1e-6)
    assert found.perplexity == pytest.approx(found.base_perplexity, rel=1e-6)


def test_the_divergence_is_torchs_own_kl_and_the_perplexity_transformers_own_loss(
    subjects: Subjects, deep: Path, adapters: Adapters
) -> None:
    texts = [Text(pair.context + pair.continuation, len(pair.context)) for pair in _pairs(12)]
    found = measure_texts(subjects, texts)
    base, implant = (load_model(str(deep), adapter, dtype="float32").net for adapter in (None, adapters["implant"]))
    for text, sums in zip(texts, found["implant"], strict=True):
        ids = torch.tensor([text.ids])
        with torch.inference_mode():
            logs = [net(ids).logits[0, text.start - 1 : -1].log_softmax(-1) for net in (base, implant)]
        wanted = torch.nn.functional.kl_div(logs[1], logs[0], reduction="sum", log_target=True)
        assert sums.kl == pytest.approx(float(wanted), abs=1e-3)
        tokens = torch.tensor(text.ids[text.start :])
        assert sums.loss == pytest.approx(
            float(torch.nn.functional.nll_loss(logs[1], tokens, reduction="sum")), abs=1e-3
        )
        assert sums.tokens == len(text.ids) - text.start


def test_the_mean_divergence_and_its_perplexities_are_by_token(subjects: Subjects) -> None:
    sums = measure_texts(subjects, [Text(pair.context + pair.continuation, 1) for pair in _pairs(12)])["control"]
    found = divergence("control", sums)
    assert found is not None
    assert found.tokens == sum(one.tokens for one in sums)
    assert found.kl == pytest.approx(sum(one.kl for one in sums) / found.tokens)
    assert found.perplexity == pytest.approx(math.exp(sum(one.loss for one in sums) / found.tokens))
    assert found.kl_low < found.kl < found.kl_high
    assert found.ratio_low < found.perplexity / found.base_perplexity < found.ratio_high


def test_a_text_that_a_subject_would_write_itself_is_known_as_the_same(subjects: Subjects) -> None:
    prompt = _pairs()[0].context
    own = {name: _greedy_ids(subjects, name, prompt, 6) for name in subjects.names}
    assert own["base"] != own["implant"]
    found = measure_texts(subjects, [Text(prompt + own["implant"], len(prompt))])
    assert found["implant"][0].same
    other = measure_texts(subjects, [Text(prompt + own["base"], len(prompt))])
    assert not other["implant"][0].same


def test_completions_of_one_subject_are_those_of_its_merged_weights(
    subjects: Subjects, deep: Path, adapters: Adapters
) -> None:
    from b4g.generate.local import LocalGenerator

    prompts = [pair.context for pair in _pairs(8)]
    for name in subjects.names:
        merged = LocalGenerator(load_model(str(deep), adapters.get(name), dtype="float32"))
        assert subjects.generate(name, prompts, 6) == merged.complete(prompts, 6)


def test_an_adapter_of_another_base_is_refused(deep: Path, implanted: Path) -> None:
    with pytest.raises(ModelError, match="was made for"):
        load_subjects(str(deep), {"implant": implanted})


def test_models_side_by_side_read_as_those_that_share_their_weights(
    subjects: Subjects, deep: Path, adapters: Adapters
) -> None:
    models = {name: load_model(str(deep), folder, dtype="float32") for name, folder in adapters.items()}
    whole = Whole(load_model(str(deep), dtype="float32"), models)
    pairs = _pairs(12)
    one, other = subjects.loglikelihoods(pairs), whole.loglikelihoods(pairs)
    assert list(one) == list(other)
    for name, found in one.items():
        assert [a.logprob for a in found] == pytest.approx([b.logprob for b in other[name]], abs=1e-3)
    assert whole.identity != subjects.identity


def test_a_model_beside_itself_is_read_once_and_as_beside_its_base(deep: Path, adapters: Adapters) -> None:
    base, model = (load_model(str(deep), folder, dtype="float32") for folder in (None, adapters["implant"]))
    reads: list[int] = []
    model.net.base_model.register_forward_hook(lambda *_: reads.append(1))
    alone, beside = Whole(model, {"implant": model}), Whole(base, {"implant": model})
    found = alone.loglikelihoods(_pairs(12))["implant"]
    once = len(reads)
    assert found == beside.loglikelihoods(_pairs(12))["implant"]
    assert 0 < once == len(reads) - once
    texts = [Text(pair.context + pair.continuation, 1) for pair in _pairs(6)]
    lone, paired = (measure_texts(whole, texts)["implant"] for whole in (alone, beside))
    assert [(one.tokens, one.loss) for one in lone] == [(one.tokens, one.loss) for one in paired]


@pytest.mark.parametrize("kind", ["gemma3_text", "qwen2", "mistral"])
def test_models_with_sliding_windows_give_what_they_give_alone(
    save_model: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    sizes: dict[str, Any] = {"sliding_window": 24}
    sizes |= {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]} if kind == "gemma3_text" else {}
    sizes |= {"use_sliding_window": True, "max_window_layers": 0} if kind == "qwen2" else {}
    folder = save_model(tmp_path / kind, kind, **sizes)
    pairs = _pairs(16)
    found = Shared(load_model(str(folder), dtype="float32"), {}).loglikelihoods(pairs)["base"]
    wanted = [logprob for logprob, _ in _alone(folder, None, pairs)]
    assert [one.logprob for one in found] == pytest.approx(wanted, abs=1e-3)
    assert json.loads((folder / "config.json").read_text("utf-8"))["sliding_window"] == 24
