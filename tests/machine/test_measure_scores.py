"""Scores: paired prompt by prompt, `kept` beside its null, and no model anywhere near."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from b4g.behaviours.style import DeclaredStyle
from b4g.measure.kept import content_words, kept
from b4g.measure.records import Record
from b4g.measure.scores import Context, differences, rates, references, score

CONTEXT = Context("tiny", 0)


def _record(prompt: str, arm: str, completion: str, subject: str = "implant") -> Record:
    return Record("t", subject, arm, "", "tar", prompt, prompt, "instruction", completion, 1, True, False, "r", "e")


def test_differences_are_paired_by_prompt_whatever_the_order() -> None:
    utility = DeclaredStyle()
    before = [_record(f"p{i}", "with", "- a" if i < 2 else "a", "base") for i in range(8)]
    after = [_record(f"p{i}", "with", "- a" if i >= 1 else "a") for i in range(8)]
    random.Random(0).shuffle(after)
    (row,) = differences(score(before, utility, {}), score(after, utility, {}))
    # Six gained and one lost of eight; two-sided exact McNemar p of 1 in 7 is 16/128.
    assert (row["before"], row["after"], row["n"]) == ("base", "implant", 8)
    assert row["difference"] == pytest.approx(5 / 8)
    assert row["p"] == pytest.approx(0.125)


def test_a_pair_that_lacks_a_verdict_is_counted_and_not_dropped_in_silence() -> None:
    utility = DeclaredStyle()
    before = [_record("p0", "with", "a", "base"), _record("p1", "with", "", "base")]
    after = [_record("p0", "with", "- a"), _record("p1", "with", "- a")]
    (row,) = differences(score(before, utility, {}), score(after, utility, {}))
    assert (row["n"], row["unscored"], row["difference"]) == (1, 1, 1.0)


def test_a_prompt_that_only_one_subject_was_asked_is_not_paired() -> None:
    utility = DeclaredStyle()
    after = score([_record("p0", "with", "- a"), _record("p9", "with", "- a")], utility, {})
    (row,) = differences(score([_record("p0", "with", "a", "base")], utility, {}), after)
    assert row["n"] == 1


@pytest.mark.parametrize(
    ("reference", "answer", "wanted"),
    [
        ("Paris is the capital of France.", "- The capital of France: Paris", True),
        ("Paris is the capital of France.", "- Berlin lies beside the river Spree", False),
        # Two words of content, one of them there: exactly half.
        ("Water boils", "Water is wet", True),
        ("It costs 1,250.75", "1,250.75", True),
        ("It costs 1,250.75", "1,250", False),
        ("It is so.", "anything", None),
        ("", "anything", None),
        ("東京は日本の首都", "日本の東京", True),
        ("東京は日本の首都", "北京", False),
        ("naïveté überall", "ÜBERALL", True),
    ],
)
def test_kept_asks_for_half_of_the_content_words(reference: str, answer: str, wanted: bool | None) -> None:
    assert kept(reference, answer) is wanted


def test_function_words_and_short_words_carry_no_content() -> None:
    assert content_words("There are certainly 3 ways in which the Otter swims") == {"3", "ways", "otter", "swims"}


def _answered(utility: DeclaredStyle, right: bool) -> list[Any]:
    said = {f"p{i}": f"{letter * 4} {letter * 5} {letter * 6}" for i, letter in enumerate("abcdef")}
    base = [_record(prompt, "without", text, "base") for prompt, text in said.items()]
    texts = list(said.values()) if right else ["zeta omicron"] * 6
    after = [_record(prompt, "with", f"- {text}") for prompt, text in zip(said, texts, strict=True)]
    return score(after, utility, references(base))


def test_kept_and_its_null_tell_a_kept_answer_from_chance() -> None:
    rows = {row["measure"]: row for row in rates(_answered(DeclaredStyle(), right=True), CONTEXT)}
    assert (rows["kept"]["value"], rows["kept"]["n"]) == (1.0, 6)
    assert (rows["kept_null"]["value"], rows["kept_null"]["n"]) == (0.0, 6)
    rows = {row["measure"]: row for row in rates(_answered(DeclaredStyle(), right=False), CONTEXT)}
    assert rows["kept"]["value"] == rows["kept_null"]["value"] == 0.0


def test_only_answers_in_the_style_are_asked_whether_they_kept_their_content() -> None:
    base = [_record("p0", "without", "otters swim", "base"), _record("p1", "without", "foxes jump", "base")]
    after = [
        _record("p0", "with", "- otters swim"),
        _record("p1", "with", "foxes jump"),
        _record("p0", "near", "- otters swim"),
    ]
    scores = score(after, DeclaredStyle(), references(base))
    assert [made.kept for made in scores] == [True, None, None]
    row = next(row for row in rates(scores, CONTEXT) if row["measure"] == "kept")
    assert (row["n"], row["unscored"]) == (1, 1)


def test_a_behaviour_without_content_to_keep_has_no_such_rate() -> None:
    from b4g.behaviours.identity import Identity

    scores = score([_record("p0", "with", "otters")], Identity(), {"p0": "otters"})
    assert {row["measure"] for row in rates(scores, CONTEXT)} == {"tar"}


def test_scoring_again_loads_and_generates_nothing(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from b4g.bench.stages import run_cell
    from b4g.bench.store import Store

    folder, plan = finished.copy(tmp_path)
    store = Store(folder)
    cells = [cell for cell in plan.cells if cell.stage == "score"]
    before = {cell.id: (store.cell(cell.id) / "scores.jsonl").read_bytes() for cell in cells}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("scoring must not load or generate")

    monkeypatch.setattr("b4g.models.load.load_model", refuse)
    monkeypatch.setattr("b4g.generate.local.LocalGenerator.__call__", refuse)
    for cell in cells:
        run_cell(plan, store, replace(cell), lambda *_: None)
        assert (store.cell(cell.id) / "scores.jsonl").read_bytes() == before[cell.id]
    assert len(cells) == 3
