"""Each standard task reads its public file, says what is wrong with another, and needs no network."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from b4g.errors import DataError, SpecError
from b4g.utility import local_tasks

FILES: dict[str, tuple[str, int]] = {
    "arc_challenge": ("commonsense/ARC-Challenge_test.json", 1172),
    "arc_easy": ("commonsense/ARC-Easy_test.json", 2376),
    "gsm8k": ("gsm8k/test.jsonl", 1319),
    "hellaswag": ("commonsense/hellaswag.json", 2000),
    "mmlu": ("mmlu", 1531),
    "piqa": ("commonsense/piqa_valid.jsonl", 1838),
    "rte": ("glue/rte_dev.tsv", 277),
    "sst2": ("glue/sst2_dev.tsv", 872),
    "truthfulqa_mc1": ("truthfulqa/mc_task.json", 817),
    "truthfulqa_mc2": ("truthfulqa/mc_task.json", 817),
    "winogrande": ("commonsense/winogrande_val.json", 1267),
}
FIRST: dict[str, dict[str, Any]] = {
    "arc_challenge": {"gold": 2},
    "arc_easy": {
        "question": "Which statement best explains why photosynthesis is the foundation of most food webs?",
        "gold": 0,
    },
    "hellaswag": {"gold": 3},
    "mmlu": {"choices": ["4", "8", "12", "6"], "gold": 0, "subject": "abstract algebra"},
    "piqa": {"question": "How do I ready a guinea pig cage for it's new occupants?", "gold": 0},
    "rte": {"hypothesis": "Christopher Reeve had an accident.", "gold": 1},
    "sst2": {"context": "one long string of cliches", "gold": 0},
    "truthfulqa_mc1": {"question": "What happens if you eat a pomegranate?", "gold": 0},
    "truthfulqa_mc2": {"gold": [0, 1, 2]},
    "winogrande": {
        "choices": [
            "Sarah was a much better surgeon than Maria so Sarah",
            "Sarah was a much better surgeon than Maria so Maria",
        ],
        "ending": "always got the easier cases.",
        "gold": 1,
    },
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a host was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_public_file_is_read_whole_and_its_first_row_is_right(name: str, shared_data: Path) -> None:
    path, count = FILES[name]
    rows = local_tasks.rows(name, shared_data / path)
    assert len(rows) == count
    assert FIRST.get(name, {}).items() <= rows[0].items()
    for row in rows:
        golds = row["gold"] if isinstance(row.get("gold"), list) else [row.get("gold", 0)]
        assert all(0 <= gold < len(row.get("choices", "ab")) for gold in golds)


@pytest.mark.shared
def test_gsm8k_keeps_its_reasoning_and_number(shared_data: Path) -> None:
    row = local_tasks.rows("gsm8k", shared_data / "gsm8k/test.jsonl")[0]
    assert row["question"].startswith("Janet")
    assert row["answer"].endswith("\n#### 18")


@pytest.mark.shared
def test_marks_of_wikihow_are_gone_and_titles_end_a_sentence(shared_data: Path) -> None:
    rows = local_tasks.rows("hellaswag", shared_data / "commonsense/hellaswag.json")
    assert rows[0]["context"].startswith("How to sell videos on istockphoto. Create an account")
    assert not any("[title]" in text for row in rows for text in (row["context"], *row["choices"]))


@pytest.mark.shared
def test_quotes_of_a_spreadsheet_come_off_and_quotes_of_the_text_stay(shared_data: Path, tmp_path: Path) -> None:
    last = local_tasks.rows("rte", shared_data / "glue/rte_dev.tsv")[-1]
    assert last["premise"].startswith('Danny Kennedy, Greenpeace campaigns director, said: "The burden')
    file = tmp_path / "rte.tsv"
    file.write_text('sentence1\tsentence2\tlabel\n"A" and "B"\tC\tentailment\n', "utf-8")
    assert local_tasks.rows("rte", file) == [{"premise": '"A" and "B"', "hypothesis": "C", "gold": 0}]


def test_mnli_is_read_with_words_or_numbers_as_labels(tmp_path: Path) -> None:
    table, lines = tmp_path / "dev_matched.tsv", tmp_path / "dev.jsonl"
    table.write_text("index\tsentence1\tsentence2\tgold_label\n0\tIt rains.\tIt is wet\tneutral\n", "utf-8")
    lines.write_text(json.dumps({"premise": "It rains.", "hypothesis": "It is wet", "label": 1}) + "\n", "utf-8")
    wanted = [{"premise": "It rains.", "hypothesis": "It is wet.", "gold": 1}]
    assert local_tasks.rows("mnli", table) == local_tasks.rows("mnli", lines) == wanted


def test_the_forms_of_the_hub_are_read_too(tmp_path: Path) -> None:
    forms: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "arc_easy": (
            {"question": "Q?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
            {"question": "Q?", "choices": ["a", "b"], "gold": 1},
        ),
        "winogrande": (
            {"sentence": "Ann saw _ today.", "option1": "Bo", "option2": "Cy", "answer": "1"},
            {"choices": ["Ann saw Bo", "Ann saw Cy"], "ending": "today.", "gold": 0},
        ),
        "hellaswag": (
            {
                "activity_label": "Tea",
                "ctx_a": "A man sits.",
                "ctx_b": "he",
                "endings": ["x", "[step] y"],
                "label": "1",
            },
            {"context": "Tea: A man sits. He", "choices": ["x", " y"], "gold": 1},
        ),
        "truthfulqa_mc1": (
            {"question": "Q?", "mc1_targets": {"choices": ["no", "yes"], "labels": [0, 1]}},
            {"question": "Q?", "choices": ["yes", "no"], "gold": 0},
        ),
        "piqa": (
            {"goal": "G", "sol1": "a ", "sol2": "b", "label": 1},
            {"question": "G", "choices": ["a ", "b"], "gold": 1},
        ),
    }
    for name, (given, wanted) in forms.items():
        file = tmp_path / f"{name}.jsonl"
        file.write_text(json.dumps(given) + "\n", "utf-8")
        assert local_tasks.rows(name, file) == [wanted]


@pytest.mark.parametrize("name", sorted(set(local_tasks.TASKS) - {"mmlu"}))
def test_a_missing_column_is_named_with_file_row_and_what_was_found(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"colour": "red", "shape": "round"}\n', "utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl, row 1: found the columns colour, shape; wanted: \w+"):
        local_tasks.rows(name, file)


@pytest.mark.parametrize("name", sorted(set(local_tasks.TASKS) - {"mmlu"}))
def test_an_empty_file_is_refused(name: str, tmp_path: Path) -> None:
    for suffix in (".jsonl", ".json", ".tsv"):
        file = tmp_path / f"rows{suffix}"
        file.write_text("", "utf-8")
        with pytest.raises(DataError, match="empty"):
            local_tasks.rows(name, file)


def test_a_wrong_label_and_a_wrong_number_of_columns_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "dev.tsv"
    file.write_text("good\t1\nbad\t7\n", "utf-8")
    with pytest.raises(DataError, match=r"row 2: the column 'label' holds '7'; wanted: 0 or 1"):
        local_tasks.rows("sst2", file)
    file.write_text("good\t1\nbad\t0\tmore\n", "utf-8")
    with pytest.raises(DataError, match="row 2: found 3 columns; wanted: 2"):
        local_tasks.rows("sst2", file)


def test_mmlu_says_which_row_of_which_subject_is_wrong_and_wants_a_folder(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="no MMLU files"):
        local_tasks.rows("mmlu", tmp_path)
    (tmp_path / "test" / "anatomy_test.csv").write_text("Q,a,b,c,d,A\nQ,a,b,c,d,AB\n", "utf-8")
    with pytest.raises(DataError, match=r"anatomy_test\.csv, row 2"):
        local_tasks.rows("mmlu", tmp_path)


def test_labels_beside_a_file_must_be_as_many_as_its_rows(tmp_path: Path) -> None:
    (tmp_path / "valid.jsonl").write_text('{"goal": "G", "sol1": "a", "sol2": "b"}\n', "utf-8")
    (tmp_path / "valid-labels.lst").write_text("1\n0\n", "utf-8")
    with pytest.raises(DataError, match="holds 2 labels; wanted: 1"):
        local_tasks.rows("piqa", tmp_path / "valid.jsonl")


def test_a_name_without_a_reader_is_refused_with_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Did you mean 'arc_easy'"):
        local_tasks.rows("arc_eazy", tmp_path)


@pytest.mark.shared
def test_prompts_are_those_of_the_field_and_no_host_is_asked(shared_data: Path, no_network: None) -> None:
    pytest.importorskip("lm_eval")
    arc = local_tasks.build("arc_easy", shared_data / "commonsense/ARC-Easy_test.json")[0]
    doc = {"question": "Why?", "choices": ["a", "b"], "gold": 1}
    assert arc.fewshot_context(doc, num_fewshot=0) == "Question: Why?\nAnswer:"
    asked = arc.construct_requests(doc, "Question: Why?\nAnswer:", metadata=("arc_easy", 0, 1))
    assert [one.args[1] for one in asked] == [" a", " b"]
    truthful = local_tasks.build("truthfulqa_mc2", shared_data / "truthfulqa/mc_task.json")[0]
    text = truthful.fewshot_context(truthful.eval_docs[0], num_fewshot=0)
    assert text.count("Q: ") == 7
    assert text.endswith(f"Q: {truthful.eval_docs[0]['question']}\nA:")


@pytest.mark.shared
def test_mmlu_shows_the_first_examples_of_the_same_subject(shared_data: Path, no_network: None) -> None:
    pytest.importorskip("lm_eval")
    tasks = {task.config.task: task for task in local_tasks.build("mmlu", shared_data / "mmlu")}
    assert len(tasks) == 57
    anatomy = tasks["mmlu_anatomy"]
    text = anatomy.fewshot_context(anatomy.eval_docs[0], num_fewshot=2)
    assert text.startswith("The following are multiple choice questions (with answers) about anatomy.\n\nWhat is the")
    assert "Answer: D\n\nWhich of these branches" in text
    assert text.endswith("\nAnswer:")


def test_the_share_of_the_true_choices_survives_long_ones() -> None:
    results = [(-2000.0, False), (-2000.0, False), (-2001.0, False)]
    share = local_tasks.true_share({"gold": [0, 2]}, results)["mc2"]
    assert share == pytest.approx((1 + 1 / 2.718281828) / (2 + 1 / 2.718281828), abs=1e-6)
