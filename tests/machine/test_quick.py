"""Quick utility: graded by likelihood a character, unscored where an item does not fit, told as a verdict."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from b4g.bench.store import read_json, read_jsonl
from b4g.models.load import load_model
from b4g.utility import quick
from b4g.utility.items import Item, items
from b4g.utility.shared import Shared
from b4g.utility.subjects import Likelihood, Pair, Subjects

ITEMS = [Item(f"Question {n}?", ("one", "two two", "three", "fo"), n % 4) for n in range(12)]


class _Says(Subjects):
    """Subjects whose likelihoods a test names: by subject, for the choices of an item in turn."""

    def __init__(self, tokenizer_of: Subjects, logprobs: dict[str, Callable[[int], float]]) -> None:
        super().__init__(tokenizer_of.base, tuple(logprobs), "says")
        self.logprobs = logprobs

    def loglikelihoods(self, pairs: Sequence[Pair], progress: Any = None) -> dict[str, list[Likelihood]]:
        return {name: [Likelihood(say(n), False) for n in range(len(pairs))] for name, say in self.logprobs.items()}


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Subjects:
    return Shared(load_model(str(tiny_model), dtype="float32"), {})


def _knows(place: int) -> float:
    return 0.0 if place % 4 == (place // 4) % 4 else -50.0


def test_one_that_knows_is_right_and_one_that_knows_nothing_is_not(plain: Subjects) -> None:
    graded = quick.grade(_Says(plain, {"base": _knows, "implant": lambda n: -_knows(n) - 50.0}), ITEMS)
    assert quick.accuracies(graded, "base") == [True] * 12
    assert quick.accuracies(graded, "implant") == [False] * 12
    [row] = quick.kept_rows(graded, {})
    assert (row["before"], row["after"], row["verdict"], row["difference"]) == ("base", "implant", "lost", -1.0)


def test_the_score_is_a_characters_share_of_the_likelihood(plain: Subjects) -> None:
    # -8 over eight characters beats -4 over two.
    graded = quick.grade(_Says(plain, {"base": lambda n: (-8.0, -7.0, -9.0, -4.0)[n % 4]}), ITEMS)
    assert [one.correct for one in graded] == [item.gold == 1 for item in ITEMS]


def test_an_item_longer_than_the_context_is_unscored_and_not_dropped(plain: Subjects) -> None:
    long = Item("word " * 3000, ("a", "b", "c", "d"), 0)
    graded = quick.grade(_Says(plain, {"base": _knows}), [ITEMS[0], long])
    assert [one.correct for one in graded] == [True, None]
    [row] = quick.rate_rows(graded, {})
    assert (row["n"], row["unscored"], row["value"]) == (1, 1, 1.0)


def test_a_run_measures_the_quick_utility_of_all_three_by_default(finished: Any) -> None:
    summary = read_json(finished.folder / "summary.json")
    rows = [row for row in summary["rates"] if row["measure"] == "utility"]
    assert {row["subject"] for row in rows} == {"base", "control", "implant"}
    assert {row["n"] for row in rows} == {8}
    assert [(row["before"], row["after"]) for row in summary["kept"]] == [
        ("base", "control"),
        ("base", "implant"),
        ("control", "implant"),
    ]
    assert {row["subject"] for row in summary["divergence"]} == {"control", "implant"}
    assert all(row["kl"] >= 0 and row["texts"] == 3 for row in summary["divergence"])
    cell = next(c for c in read_json(finished.folder / "plan.json")["cells"] if c["stage"] == "utility")
    graded = read_jsonl(finished.folder / "cells" / cell["id"] / "items.jsonl")
    assert {row["item"] for row in graded} == {item.id for item in items()[:8]}


def test_the_report_shows_the_verdicts_of_clean_performance(finished: Any) -> None:
    html = (finished.folder / "report.html").read_text("utf-8")
    for row in read_json(finished.folder / "summary.json")["kept"]:
        assert f'data-before="{row["before"]}" data-after="{row["after"]}" data-verdict="{row["verdict"]}"' in html


def test_the_command_measures_an_implants_utility_with_its_control(
    implanted: Path, tiny_model: Path, b4g: Callable[..., Any], shared_data: Path
) -> None:
    wikitext = shared_data / "wikitext2" / "valid.txt"
    given = ["measure", implanted, "--model", tiny_model, "--only", "utility", "--limit", 6]
    ran = b4g(*given, "--data", f"wikitext={wikitext}", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert {(row["subject"], row["n"]) for row in found["rates"]} == {("base", 6), ("implant", 6)}
    assert [row["text"] for row in found["divergence"]] == ["clean answers", "wikitext"]
    assert found["settings"]["margin"] == 0.01
    plain = b4g(*given, "--margin", 5)
    assert "against a margin of 5" in plain.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "utillity"), "Did you mean 'utility'?"),
        (("--only", "utility", "--margin", "0"), "a margin lies between 0 and 1"),
        (("--only", "utility", "--data", "arc_easy"), "--data takes TASK=FILE"),
        (("--only", "utility", "--data", "wikitext=nowhere.txt", "--limit", "1"), "can't be read as UTF-8"),
        (("--only", "mt-bench"), "mt-bench needs its questions"),
        (("--only", "mt-bench", "--questions", "q.jsonl", "--judge", "http://x"), "give both --judge"),
    ],
)
def test_a_wrong_option_of_a_measure_is_named(
    implanted: Path, tiny_model: Path, b4g: Callable[..., Any], options: tuple[str, ...], said: str
) -> None:
    ran = b4g("measure", implanted, "--model", tiny_model, *options)
    assert ran.code == 2
    assert said in ran.err


def test_the_command_hands_named_tasks_to_lm_eval_with_local_files(
    implanted: Path, tiny_model: Path, b4g: Callable[..., Any], shared_data: Path
) -> None:
    pytest.importorskip("lm_eval")
    easy, truthful = shared_data / "commonsense" / "ARC-Easy_test.json", shared_data / "truthfulqa" / "mc_task.json"
    given = ["measure", implanted, "--model", tiny_model, "--only", "utility", "--limit", 5]
    given += [
        "--tasks",
        "arc_easy,truthfulqa_mc2",
        "--data",
        f"arc_easy={easy}",
        "--data",
        f"truthfulqa_mc2={truthful}",
    ]
    ran = b4g(*given, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    accuracy = [row for row in found["rates"] if (row["arm"], row["measure"]) == ("arc_easy", "acc_norm")]
    assert {(row["subject"], row["n"]) for row in accuracy} == {("base", 5), ("implant", 5)}
    assert [(row["arm"], row["measure"]) for row in found["kept"]] == [("arc_easy", "acc_norm")]
    assert [(task["task"], task["items"], task["source"]) for task in found["tasks"]] == [
        ("arc_easy", 5, "local"),
        ("truthfulqa_mc2", 5, "local"),
    ]
    plain = b4g(*given)
    assert "arc_easy acc_norm  base: " in plain.out
    assert "truthfulqa_mc2 " in plain.out
    assert str(shared_data) not in ran.out
