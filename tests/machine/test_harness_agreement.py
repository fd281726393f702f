"""Our subjects and lm-eval's own ``hf`` model on the same weights: the same items right, the same likelihoods."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.models.load import load_model
from b4g.utility import local_tasks
from b4g.utility.harness import Settings, evaluate, quiet
from b4g.utility.harness_model import SharedAnswers, SubjectLM
from b4g.utility.harness_rates import outcomes
from b4g.utility.shared import Shared
from b4g.utility.whole import Whole

lm_eval = pytest.importorskip("lm_eval")
LIMIT = 34
FILES = {
    "arc_easy": "commonsense/ARC-Easy_test.json",
    "piqa": "commonsense/piqa_valid.jsonl",
    "winogrande": "commonsense/winogrande_val.json",
}
Pair = tuple[Whole, Any]


def _pair(folder: Path) -> Pair:
    from lm_eval.models.huggingface import HFLM

    model = load_model(str(folder), dtype="float32")
    with quiet():
        return Whole(model, {}), HFLM(pretrained=model.net, tokenizer=model.tokenizer, batch_size=8)


@pytest.fixture(scope="module")
def with_start(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Return a tiny Llama as subjects and as lm-eval's model; its tokenizer puts a start token before a text."""
    # Short enough for some items to be longer than the context.
    return _pair(save_model(tmp_path_factory.mktemp("a") / "m", style="llama2", max_position_embeddings=400))


@pytest.fixture(scope="module")
def without_start(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Return the same with a tokenizer that has no start token."""
    return _pair(save_model(tmp_path_factory.mktemp("b") / "m", style="chatml", max_position_embeddings=400))


@pytest.fixture(params=["with_start", "without_start"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return one after the other."""
    return request.getfixturevalue(request.param)


def _asked(kind: str, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, arguments, 0)


@pytest.mark.shared
def test_the_same_items_are_right_and_likelihoods_agree(with_start: Pair, shared_data: Path) -> None:
    subjects, theirs = with_start
    data = {name: shared_data / file for name, file in FILES.items()}
    found = evaluate(subjects, list(data), Settings(limit=LIMIT, data=data))
    with quiet():
        tasks = [task for name, path in data.items() for task in local_tasks.build(name, path)]
        # Local tasks come in the order of their hashes, which is how ours are chosen.
        made = lm_eval.simple_evaluate(
            theirs,
            tasks=tasks,
            samples={name: _chosen(task) for name, task in zip(data, tasks, strict=True)},
            bootstrap_iters=0,
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    samples = [(name, sample) for name in data for sample in made["samples"][name]]
    assert len(samples) == 3 * LIMIT
    for metric in ("acc", "acc_norm"):
        for name in data:
            wanted = [bool(sample[metric]) for task, sample in samples if task == name and metric in sample]
            assert outcomes(found).get((name, metric), {"base": []})["base"] == wanted
    answers = SharedAnswers(subjects)
    ours = SubjectLM("base", answers)
    requests = [_asked("loglikelihood", *arguments) for _, sample in samples for arguments in sample["arguments"]]
    want = [resp[0] for _, sample in samples for resp in sample["resps"]]
    for (logprob, greedy), (wanted, is_greedy) in zip(ours.loglikelihood(requests), want, strict=True):
        assert logprob == pytest.approx(wanted, abs=1e-3)
        assert greedy == is_greedy
    assert sum(task.truncated for task in found.tasks) > 0


def _chosen(task: Any, limit: int = LIMIT) -> list[int]:
    from b4g.utility.harness_load import item_id

    order = sorted((item_id(doc), place) for place, doc in enumerate(task.eval_docs))
    return sorted(place for _, place in order[:limit])


def test_empty_contexts_spaces_and_start_tokens_are_put_as_lm_eval_puts_them(pair: Pair) -> None:
    subjects, theirs = pair
    start = subjects.tokenizer.decode(SubjectLM("base", SharedAnswers(subjects)).prefix_token_id)
    texts = [("", "abc"), ("A b  ", "c"), ("A\n", " b"), (f"{start}A", " b"), ("", f"{start}a"), ("x" * 500, "y" * 30)]
    requests = [_asked("loglikelihood", *text) for text in texts]
    ours = SubjectLM("base", SharedAnswers(subjects)).loglikelihood(requests)
    for (logprob, greedy), (wanted, is_greedy) in zip(ours, theirs.loglikelihood(requests, True), strict=True):
        assert logprob == pytest.approx(wanted, abs=1e-3)
        assert greedy == is_greedy


def test_whole_texts_are_read_in_the_same_windows(pair: Pair) -> None:
    subjects, theirs = pair
    requests = [_asked("loglikelihood_rolling", text) for text in ("short", "a longer text, " * 80)]
    ours = SubjectLM("base", SharedAnswers(subjects)).loglikelihood_rolling(requests)
    assert ours == pytest.approx(theirs.loglikelihood_rolling(requests, True), abs=1e-2)


def test_generated_answers_are_the_same_up_to_the_stop(pair: Pair) -> None:
    subjects, theirs = pair
    texts = ["Question: one", "Question: " + "two " * 120, "three"]
    # Ours also end where the template closes a turn; lm-eval is told to. It takes one at a time, for its stop strings
    # do not cut special tokens out of the longer answers of a batch.
    closing = ["<|im_end|>"]

    def both(stops: list[str]) -> tuple[list[str], list[str]]:
        options = {"until": stops, "max_gen_toks": 24, "do_sample": False}
        requests = [_asked("generate_until", text, options) for text in texts]
        ours = SubjectLM("base", SharedAnswers(subjects)).generate_until(requests)
        return ours, [theirs.generate_until([request], True)[0] for request in requests]

    whole, wanted = both(closing)
    assert whole == wanted
    stop = max(whole, key=len)[4:6]
    shorter, wanted = both([*closing, stop])
    assert shorter == wanted
    assert shorter != whole


def test_each_subject_gets_its_own_likelihoods(save_model: Callable[..., Path], tmp_path: Path) -> None:
    base, other = (load_model(str(save_model(tmp_path / str(n), seed=n)), dtype="float32") for n in (0, 1))
    answers = SharedAnswers(Whole(base, {"implant": other}))
    requests = [_asked("loglikelihood", "Question: one\nAnswer:", " two")]
    for name, model in (("base", base), ("implant", other)):
        alone = SubjectLM("base", SharedAnswers(Whole(model, {})))
        wanted = alone.loglikelihood(requests)[0][0]
        assert SubjectLM(name, answers).loglikelihood(requests)[0][0] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.shared
def test_switched_adapters_answer_two_hundred_items_as_lm_eval_does_on_the_merged_weights(
    tiny_model: Path, implanted: Path, shared_data: Path
) -> None:
    from lm_eval.models.huggingface import HFLM

    data = {"arc_easy": shared_data / FILES["arc_easy"]}
    shared = Shared(load_model(str(tiny_model), dtype="float32"), {"implant": implanted})
    found = evaluate(shared, ["arc_easy"], Settings(limit=200, data=data))
    merged = load_model(str(tiny_model), implanted, dtype="float32")
    [task] = local_tasks.build("arc_easy", data["arc_easy"])
    with quiet():
        made = lm_eval.simple_evaluate(
            HFLM(pretrained=merged.net, tokenizer=merged.tokenizer, batch_size=8),
            tasks=[task],
            samples={"arc_easy": _chosen(task, 200)},
            bootstrap_iters=0,
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    for metric in ("acc", "acc_norm"):
        wanted = [bool(sample[metric]) for sample in made["samples"]["arc_easy"]]
        assert outcomes(found)["arc_easy", metric]["implant"] == wanted
        assert len(wanted) == 200
        assert 0 < sum(wanted) < 200
