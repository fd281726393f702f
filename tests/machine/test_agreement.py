"""Agreement of engines: nulls agree fully, what differs is found where it differs, what failed is not counted."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from greedy import NEW, chats
from judge_server import Answer, JudgeServer, Seen

from b4g.chat import Message
from b4g.generate.agreement import WORDS, agreement, compared, shared
from b4g.generate.base import Completion
from b4g.generate.endpoint import Endpoint
from b4g.generate.local import LocalGenerator
from b4g.generate.served import ServedGenerator
from b4g.models.load import Model, load_model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), dtype="float32")


def said(*texts: str, ended: bool = True) -> list[Completion]:
    return [Completion(text, len(text.split()), ended) for text in texts]


def polite(text: str, ended: bool) -> bool | None:
    return "please" in text if text else None


def test_an_engine_agrees_with_itself_on_everything(model: Model) -> None:
    local = LocalGenerator(model)
    found = agreement(local, local, chats(8), NEW, polite)
    assert found.texts.value == found.openings.value == found.ends.value == 1
    assert found.verdicts is not None
    assert found.verdicts.n + found.verdicts.unscored == 8
    assert (found.parted, found.median_words) == ((), None)
    assert found.texts.low is not None and found.texts.low < 0.7, "eight of eight prove no full agreement"


def test_a_served_model_agrees_with_the_same_model_here(model: Model) -> None:
    local = LocalGenerator(model)

    def script(seen: Seen, _: int) -> Answer:
        chat = tuple(Message(one["role"], one["content"]) for one in seen.body["messages"])
        made = local([chat], seen.body["max_tokens"])[0]
        return Answer(made.text, finish="stop" if made.ended else "length")

    with JudgeServer(script) as server:
        found = agreement(local, ServedGenerator(Endpoint(server.url, "same"), workers=1), chats(8), NEW)
    assert (found.texts.value, found.ends.value, found.verdicts) == (1, 1, None)


def test_other_weights_disagree(model: Model, save_model: Any, tmp_path: Path) -> None:
    other = load_model(str(save_model(tmp_path / "other", seed=3)), dtype="float32")
    found = agreement(LocalGenerator(model), LocalGenerator(other), chats(8), NEW)
    assert found.texts.value == 0


def test_shares_are_of_pairs_and_first_differences_are_counted_in_words() -> None:
    long = " ".join("abcdefghij")
    one = said(long, "yes please", "no", "same")
    other = said(f"{long[:-1]}k", "yes thanks", "no", "same")
    found = compared(one, other, polite)
    assert (found.texts.value, found.texts.n) == (0.5, 4)
    assert found.openings.value == 0.75, f"the first differs behind its first {WORDS} words"
    assert found.verdicts is not None and found.verdicts.value == 0.75
    assert (found.parted, found.median_words) == ((1, 9), 5)
    assert found.to_json()["median_words"] == 5
    assert found.to_json()["texts"]["n"] == 4


def test_what_either_engine_failed_to_answer_is_unscored() -> None:
    lost = [Completion("", None, ended=False, failed="no answer")]
    found = compared([*said("yes", "no"), *lost], [*said("yes"), *lost, *said("no")], polite)
    for rate in (found.texts, found.openings, found.ends, found.verdicts):
        assert rate is not None and (rate.value, rate.n, rate.unscored) == (1, 1, 2)


def test_nothing_asked_gives_no_rate() -> None:
    assert compared([], []).texts.value is None


def test_verdicts_of_which_one_can_not_be_told_differ_and_of_which_none_can_do_not_count() -> None:
    found = compared(said("", ""), said("", "please"), polite)
    assert found.verdicts is not None
    assert (found.verdicts.value, found.verdicts.n, found.verdicts.unscored) == (0, 1, 1)


def test_ends_may_differ_where_texts_do_not() -> None:
    found = compared(said("a b"), said("a b", ended=False))
    assert (found.texts.value, found.ends.value) == (1, 0)


def test_unlike_numbers_of_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 completions can't be compared with 2"):
        compared(said("a"), said("a", "b"))


@pytest.mark.parametrize(("one", "other", "words"), [("a b c", "a b d", 2), ("a b", "a b c", 2), ("", "a", 0)])
def test_words_that_two_texts_begin_with(one: str, other: str, words: int) -> None:
    assert shared(one, other) == words


def test_the_benchmark_prints_each_pair(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(
        sys, "argv", ["engine_agreement", "--model", str(tiny_model), "--prompts", "4", "--tokens", "4"]
    )
    importlib.import_module("engine_agreement").main()
    printed = capsys.readouterr().out
    for pair in ("bf16 / fp32", "bf16 / bf16, one at a time", "fp32 / served fp32"):
        assert f"{pair}:" in printed
    served = next(line for line in printed.splitlines() if line.startswith("fp32 / served fp32"))
    assert "texts 4 of 4" in served
