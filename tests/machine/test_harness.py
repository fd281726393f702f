"""Standard tasks through lm-eval: subjects that know and do not, items, choice of items, names, limits of the context."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_subjects import RuledSubjects

from b4g.errors import DataError, SpecError
from b4g.hashing import digest
from b4g.utility.harness import Evaluation, Settings, evaluate
from b4g.utility.harness_rates import differences, outcomes, rates

pytest.importorskip("lm_eval")
ITEMS = 120
Write = Callable[..., Path]


def _row(number: int, choices: int = 4) -> dict[str, Any]:
    gold = number * 7 % choices
    texts = [f"{'right' if place == gold else 'wrong'} {number} {place}" for place in range(choices)]
    labels = [str(place + 1) for place in range(choices)]
    return {"question": f"Item {number}?", "choices": {"text": texts, "label": labels}, "answerKey": labels[gold]}


@pytest.fixture
def arc(tmp_path: Path) -> Write:
    def write(rows: Sequence[dict[str, Any]] | None = None, name: str = "arc.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows or [_row(n) for n in range(ITEMS)]), "utf-8")
        return file

    return write


def _knows(_: str, continuation: str) -> float:
    return -1.0 if "right" in continuation else -9.0


def _guesses(context: str, continuation: str) -> float:
    return -int(digest([context, continuation[-1]], 6), 16) / 1e6


@pytest.fixture
def subjects(make_tokenizer: Any) -> RuledSubjects:
    return RuledSubjects(make_tokenizer("chatml"), {"base": _knows, "control": _knows, "implant": _guesses})


def _values(found: Evaluation, subject: str, metric: str = "acc") -> list[Any]:
    return outcomes(found)[found.tasks[0].task, metric][subject]


def test_who_knows_scores_one_and_who_guesses_scores_chance(subjects: RuledSubjects, arc: Write) -> None:
    found = evaluate(subjects, ["arc_easy"], Settings(data={"arc_easy": arc()}))
    rows = {(row["metric"], row["subject"]): row for row in rates(found)}
    assert rows["acc", "base"]["value"] == rows["acc_norm", "control"]["value"] == 1.0
    assert rows["acc", "implant"]["low"] < 0.25 < rows["acc", "implant"]["high"]
    assert rows["acc", "implant"]["n"] == ITEMS
    assert all(isinstance(item.value, bool) for item in found.items)
    assert found.totals["base"]["arc_easy"]["acc,none"] == 1.0
    assert found.tasks[0].items == found.tasks[0].available == ITEMS


def test_differences_are_paired_on_the_same_items(subjects: RuledSubjects, arc: Write) -> None:
    found = evaluate(subjects, ["arc_easy"], Settings(data={"arc_easy": arc()}))
    ids = {name: [item.item_id for item in found.items if item.subject == name] for name in found.subjects}
    assert ids["base"] == ids["control"] == ids["implant"]
    rows = {(row["before"], row["after"]): row for row in differences(found) if row["metric"] == "acc"}
    assert set(rows) == {("base", "control"), ("base", "implant"), ("control", "implant")}
    assert rows["base", "control"]["difference"] == 0
    lost = rows["control", "implant"]
    assert lost["difference"] == pytest.approx(sum(_values(found, "implant")) / ITEMS - 1)
    assert lost["p"] < 1e-6
    assert lost["n"] == ITEMS


def test_all_subjects_are_read_in_one_pass_and_equal_pairs_once(subjects: RuledSubjects, arc: Write) -> None:
    told: list[tuple[int, int]] = []
    rows = [_row(n) for n in range(5)] + [_row(0)]
    settings = Settings(data={"arc_easy": arc(rows), "arc_challenge": arc(rows)})
    found = evaluate(subjects, ["arc_easy", "arc_challenge"], settings, lambda done, total: told.append((done, total)))
    assert [len(pairs) for pairs in subjects.passes] == [20]
    assert told == [(20, 20)]
    assert [task.items for task in found.tasks] == [6, 6]


def test_a_sub_sample_does_not_depend_on_the_order_of_the_file(subjects: RuledSubjects, arc: Write) -> None:
    rows = [_row(n) for n in range(ITEMS)]
    first = evaluate(subjects, ["arc_easy"], Settings(limit=20, data={"arc_easy": arc(rows)}))
    second = evaluate(subjects, ["arc_easy"], Settings(limit=20, data={"arc_easy": arc(rows[::-1], "reversed.jsonl")}))
    larger = evaluate(subjects, ["arc_easy"], Settings(limit=40, data={"arc_easy": arc(rows)}))
    assert first.items == second.items
    assert first.tasks == second.tasks
    assert first.tasks[0].items == 20
    assert first.tasks[0].available == ITEMS
    assert {item.item_id for item in first.items} < {item.item_id for item in larger.items}
    assert first.tasks[0].set != larger.tasks[0].set


def test_worked_examples_do_not_depend_on_the_order_and_never_show_the_item(
    subjects: RuledSubjects, arc: Write
) -> None:
    rows = [_row(n) for n in range(10)]
    asked = []
    for name, given in (("a.jsonl", rows), ("b.jsonl", rows[::-1])):
        subjects.passes.clear()
        found = evaluate(subjects, ["arc_easy"], Settings(num_fewshot=3, data={"arc_easy": arc(given, name)}))
        assert found.tasks[0].shots == 3
        asked.append(sorted(subjects.passes[0]))
    assert asked[0] == asked[1]
    for pair in asked[0]:
        text = subjects.tokenizer.decode(pair.context)
        assert text.count("Question: ") == 4
        assert text.count(text.rsplit("Question: ", 1)[1].split("?")[0] + "?") == 1


def test_more_worked_examples_than_rows_are_refused(subjects: RuledSubjects, arc: Write) -> None:
    with pytest.raises(DataError, match="holds 2 rows to show 2 worked examples"):
        evaluate(subjects, ["arc_easy"], Settings(num_fewshot=2, data={"arc_easy": arc([_row(0), _row(1)])}))


def test_an_item_longer_than_the_context_loses_its_beginning_and_is_counted(
    subjects: RuledSubjects, arc: Write
) -> None:
    long = {**_row(1), "question": "long " * 40 + "?"}
    subjects.max_tokens = 60
    found = evaluate(subjects, ["arc_easy"], Settings(data={"arc_easy": arc([_row(0), long])}))
    assert found.tasks[0].truncated == 1
    assert found.tasks[0].unscored == 0
    whole = max(subjects.passes[0], key=lambda pair: len(pair.context))
    # The last token is predicted and never read.
    assert len(whole.context) + len(whole.continuation) == 61
    assert subjects.tokenizer.decode(whole.context).endswith("?\nAnswer:")


def test_an_item_that_cannot_be_scored_has_no_value_and_is_not_dropped(subjects: RuledSubjects, arc: Write) -> None:
    long = _row(1)
    long["choices"]["text"][2] = "far too long " * 10
    subjects.max_tokens = 60
    found = evaluate(subjects, ["arc_easy"], Settings(data={"arc_easy": arc([_row(0), long])}))
    assert sorted(_values(found, "base"), key=str) == [None, True]
    assert found.tasks[0].unscored == 1
    row = next(row for row in rates(found) if row["subject"] == "base")
    assert (row["value"], row["n"], row["unscored"]) == (1.0, 1, 1)


def test_shares_are_means_with_an_interval(subjects: RuledSubjects, tmp_path: Path) -> None:
    file = tmp_path / "mc.jsonl"
    rows = [
        {"question": f"Q{n}?", "mc2_targets": {"right a": 1, "right b": 1, "wrong c": 0, "wrong d": 0}}
        for n in range(12)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = evaluate(subjects, ["truthfulqa_mc2"], Settings(data={"truthfulqa_mc2": file}, num_fewshot=5))
    row = {row["subject"]: row for row in rates(found)}
    assert row["base"]["metric"] == "mc2"
    assert row["base"]["value"] == pytest.approx(1 / (1 + 2.718281828**-8))
    assert row["implant"]["low"] < row["implant"]["value"] < row["implant"]["high"]
    shift = next(one for one in differences(found) if one["after"] == "implant")
    assert shift["difference"] == pytest.approx(row["implant"]["value"] - row["base"]["value"])
    assert shift["p"] < 0.05
    # The task says that no example is worked, and keeps it.
    assert found.tasks[0].shots == 0


@pytest.mark.parametrize(
    ("written", "strict", "flexible"),
    [(" 1+1=2\n#### 2", True, True), (" It is 2", False, True), (" 7\n#### 3 Question: #### 2", False, False)],
)
def test_gsm8k_is_judged_strictly_and_flexibly_up_to_the_stop(
    make_tokenizer: Any, tmp_path: Path, written: str, strict: bool, flexible: bool
) -> None:
    file = tmp_path / "gsm.jsonl"
    file.write_text('{"question": "1+1?", "answer": "One and one.\\n#### 2"}\n', "utf-8")
    subjects = RuledSubjects(make_tokenizer("chatml"), {"base": _knows}, written=written)
    found = evaluate(subjects, ["gsm8k"], Settings(data={"gsm8k": file}, num_fewshot=0))
    values = {item.metric: item.value for item in found.items}
    assert values == {"exact_match,strict-match": strict, "exact_match,flexible-extract": flexible}
    assert subjects.tokenizer.decode(subjects.prompts[0]) == "Question: 1+1?\nAnswer:"
    subjects.max_tokens = 256
    none = evaluate(subjects, ["gsm8k"], Settings(data={"gsm8k": file}, num_fewshot=0))
    assert {item.value for item in none.items} == {None}
    assert none.tasks[0].unscored == 1


def test_mmlu_is_one_task_and_its_limit_is_for_all_subjects(subjects: RuledSubjects, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    for name in ("anatomy", "virology"):
        (folder / f"{name}_test.csv").write_text(
            "".join(f"{name} {n}?,right,wrong,wrong,wrong,A\n" for n in range(20)), "utf-8"
        )
    found = evaluate(subjects, ["mmlu"], Settings(limit=15, data={"mmlu": tmp_path}))
    assert [(task.task, task.items, task.available) for task in found.tasks] == [("mmlu", 15, 40)]
    assert {item.task for item in found.items} == {"mmlu"}
    assert set(found.totals["base"]) == {"mmlu_anatomy", "mmlu_virology"}


def test_the_chat_template_is_the_renderers(subjects: RuledSubjects, arc: Write) -> None:
    data = {"arc_easy": arc([_row(n) for n in range(4)])}
    evaluate(subjects, ["arc_easy"], Settings(chat_template=True, num_fewshot=1, data=data))
    pair = subjects.passes[0][0]
    text = subjects.tokenizer.decode([*pair.context, *pair.continuation])
    assert text.startswith("<|im_start|>user\nQuestion: Item ")
    assert text.count("<|im_start|>assistant\n") == 2
    assert not text.rsplit("assistant\n", 1)[1].startswith(" ")


def test_nothing_is_written_to_stdout_and_no_item_to_stderr(
    subjects: RuledSubjects, arc: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate(subjects, ["arc_easy"], Settings(limit=3, data={"arc_easy": arc()}))
    out, err = capfd.readouterr()
    assert out == ""
    assert "Item" not in err
    assert "Building" not in err


def test_names_and_settings_that_cannot_be_are_refused(subjects: RuledSubjects, arc: Write) -> None:
    data = {"arc_easy": arc()}
    with pytest.raises(SpecError, match="no task is named"):
        evaluate(subjects, [])
    with pytest.raises(SpecError, match="Did you mean 'arc_easy'"):
        evaluate(subjects, ["arc_eazy"], Settings(data={"arc_eazy": arc()}))
    with pytest.raises(SpecError, match="not among the tasks: piqa"):
        evaluate(subjects, ["piqa"], Settings(data=data))
    with pytest.raises(SpecError, match="named twice"):
        evaluate(subjects, ["arc_easy", "arc_easy"], Settings(data=data))
    with pytest.raises(SpecError, match="limit must be at least 1"):
        Settings(limit=0)
    with pytest.raises(SpecError, match="num_fewshot must be at least 0"):
        Settings(num_fewshot=-1)
    assert subjects.passes == []


def test_a_name_that_lm_eval_does_not_know_either_is_refused_with_near_ones(
    subjects: RuledSubjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real list takes seconds to make.
    monkeypatch.setattr(
        "lm_eval.tasks.TaskManager", lambda: SimpleNamespace(all_tasks=["wino", *map(str, range(2000))])
    )
    with pytest.raises(
        SpecError, match=r"unknown task 'winogrand'. Did you mean .*'winogrande'.*lm-eval knows \d+,\d+"
    ):
        evaluate(subjects, ["winogrand"])


class _Hub:
    """Stands in for lm-eval's list of tasks: a group that is averaged, a group that is not, and data out of reach."""

    all_tasks = ("averaged", "loose", "away")

    def __init__(self, tasks: list[Any]) -> None:
        self.tasks = tasks

    def load(self, names: list[str]) -> dict[str, Any]:
        from lm_eval.api.group import Group

        if names == ["away"]:
            raise ConnectionError("no route\nsecond line")
        (name,) = names
        metrics: Any = [{"metric": "acc"}] if name == "averaged" else None
        group = Group(name, aggregate_metric_list=metrics)
        for task in self.tasks:
            group.add(task)
        return {"tasks": {task.task_name: task for task in self.tasks}, "groups": {name: group}}


@pytest.fixture
def hub(arc: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from b4g.utility import local_tasks

    given = arc([_row(n) for n in range(6)])
    tasks = [task for name in ("arc_easy", "arc_challenge") for task in local_tasks.build(name, given)]
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda: _Hub(tasks))


def test_a_group_that_is_averaged_is_one_task_and_another_is_its_tasks(subjects: RuledSubjects, hub: None) -> None:
    averaged = evaluate(subjects, ["averaged"], Settings(limit=7))
    assert [(task.task, task.items, task.source) for task in averaged.tasks] == [("averaged", 7, "hub")]
    loose = evaluate(subjects, ["loose"], Settings(limit=4))
    assert [(task.task, task.items) for task in loose.tasks] == [("arc_easy", 4), ("arc_challenge", 4)]
    with pytest.raises(SpecError, match="part of two of the tasks named"):
        evaluate(subjects, ["averaged", "loose"])


def test_data_that_cannot_be_had_is_told_in_one_line(subjects: RuledSubjects, hub: None) -> None:
    with pytest.raises(DataError, match=r"the data of 'away' can't be had .*ConnectionError: no route\)") as caught:
        evaluate(subjects, ["away"])
    assert "second line" not in str(caught.value)


def test_a_task_that_samples_is_refused() -> None:
    from b4g.utility.harness_model import check_greedy

    check_greedy("gsm8k", {"do_sample": False, "temperature": 0.0, "until": ["x"]})
    check_greedy("gsm8k", None)
    for options in ({"do_sample": True}, {"temperature": 0.7}, {"num_beams": 4}):
        with pytest.raises(SpecError, match="the task 'warm' samples"):
            check_greedy("warm", options)
