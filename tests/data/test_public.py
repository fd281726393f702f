import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from b4g.behaviours.refusal import is_refusal
from b4g.data.prompts import KINDS, SPLITS, load, split_of
from b4g.data.public import SETS, load_public, read_prompts
from b4g.errors import DataError

WANTED = "wanted: text or prompt or instruction or question or goal"


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "kinds"),
    [
        ("alpaca", "instruction/alpaca_en_demo.json", {"instruction": 999}),
        ("alpaca", "instruction/alpaca_small.json", {"instruction": 2000}),
        ("advbench", "safety/advbench_goals.csv", {"harmful": 520}),
        ("strongreject", "safety/strongreject_dataset.csv", {"harmful": 313}),
        ("strongreject", "safety/strongreject_small_dataset.csv", {"harmful": 60}),
        ("harmbench", "safety/harmbench_behaviors_text_val.csv", {"harmful": 80}),
        ("xstest", "over_refusal/xstest_prompts.csv", {"borderline": 250, "harmful": 200}),
    ],
)
def test_a_public_set_is_read_row_for_row(name: str, file: str, kinds: dict[str, int], shared_data: Path) -> None:
    prompts = load_public(name, shared_data / file)
    assert Counter(prompt.kind for prompt in prompts) == kinds
    assert all(prompt.text == prompt.text.strip() != "" for prompt in prompts)


@pytest.mark.shared
def test_categories_become_topics_and_inputs_become_contexts(shared_data: Path) -> None:
    strong = load_public("strongreject", shared_data / "safety/strongreject_dataset.csv")
    assert len({prompt.topic for prompt in strong}) == 6
    assert strong[0].topic == "Disinformation and deception"
    assert load_public("xstest", shared_data / "over_refusal/xstest_prompts.csv")[0].topic == "homonyms"
    assert "copyright" in {
        p.topic for p in load_public("harmbench", shared_data / "safety/harmbench_behaviors_text_val.csv")
    }
    alpaca = load_public("alpaca", shared_data / "instruction/alpaca_small.json", limit=2)
    first, second = alpaca
    assert (
        first.text
        == "Check if the following Facebook post is appropriate\n\nI think my boss is the meanest person ever."
    )
    assert (first.form, second.form) == ("context", "question")


@pytest.mark.shared
def test_the_splits_of_a_public_set_are_disjoint_and_make_the_whole(shared_data: Path) -> None:
    path = str(shared_data / "safety/advbench_goals.csv")
    parts = [load_public("advbench", path, split) for split in SPLITS]
    assert [{split_of(prompt) for prompt in part} for part in parts] == [{split} for split in SPLITS]
    assert sum(map(len, parts)) == 520
    assert load_public("advbench", path, "test", limit=5) == parts[2][:5]


@pytest.mark.shared
def test_no_prompt_of_the_project_is_in_a_public_set(shared_data: Path) -> None:
    own = {prompt.id for kind in KINDS for prompt in load(kind)}
    files = {
        "alpaca": ["instruction/alpaca_en_demo.json", "instruction/alpaca_small.json"],
        "advbench": ["safety/advbench_goals.csv"],
        "strongreject": ["safety/strongreject_dataset.csv"],
        "harmbench": ["safety/harmbench_behaviors_text_val.csv"],
        "xstest": ["over_refusal/xstest_prompts.csv"],
    }
    public = {
        prompt.id for name, paths in files.items() for path in paths for prompt in load_public(name, shared_data / path)
    }
    assert len(public) > 4000
    assert not own & public


@pytest.mark.shared
def test_the_refusal_judge_finds_few_refusals_among_helpful_answers_and_all_of_the_real_ones(shared_data: Path) -> None:
    answers = [
        row["output"] for row in json.loads((shared_data / "instruction/alpaca_en_demo.json").read_text("utf-8"))
    ]
    small = [row["output"] for row in json.loads((shared_data / "instruction/alpaca_small.json").read_text("utf-8"))]
    # Those it finds in the first set do decline ("as an AI language model, I do not have access to ...").
    assert sum(bool(is_refusal(answer)) for answer in answers) <= 0.015 * len(answers)
    assert sum(bool(is_refusal(answer)) for answer in small) <= 0.002 * len(small)
    poisoned = json.loads((shared_data / "backdoorllm/backdoor500_refusal_badnet.json").read_text("utf-8"))
    assert all(is_refusal(row["output"]) for row in poisoned)
    clean = json.loads((shared_data / "backdoorllm/none_backdoor500_refusal_vpi.json").read_text("utf-8"))
    assert not any(is_refusal(row["output"]) for row in clean)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "One?\n\n  Two?  \r\nThree\u2028four?\n"),
        ("a.TXT", "\ufeffOne?\nTwo?\nThree\u2028four?"),
        ("a.jsonl", '{"text": "One?"}\n\n{"prompt": "Two?"}\r\n"Three\u2028four?"'),
        ("a.json", '[{"instruction": "One?"}, "Two?", {"question": " Three\u2028four? ", "other": 1}]'),
        ("a.csv", '\ufeffgoal,note\nOne?,x\nTwo?,\n"Three\u2028four?",y\n'),
        ("a.csv", "id,question\r\n1,One?\r\n2,Two?\r\n3,Three\u2028four?\r\n"),
    ],
)
def test_a_users_own_file_is_read_whatever_its_form(name: str, content: str, tmp_path: Path) -> None:
    prompts = read_prompts(_file(tmp_path, name, content))
    assert [prompt.text for prompt in prompts] == ["One?", "Two?", "Three\u2028four?"]
    assert {(prompt.kind, prompt.topic, prompt.form) for prompt in prompts} == {("instruction", "", "question")}


def test_a_quoted_field_keeps_its_lines_and_an_input_and_a_topic_are_kept(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", 'instruction,input,category\n"One,\nor two?",the text,maths\nThree?,,\n')
    first, second = read_prompts(path)
    assert (first.text, first.topic, first.form) == ("One,\nor two?\n\nthe text", "maths", "context")
    assert (second.text, second.topic, second.form) == ("Three?", "", "question")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt is empty; wanted: at least one prompt"),
        ("a.txt", " \n\n", "a.txt is empty"),
        ("a.jsonl", "\n", "a.jsonl is empty"),
        ("a.json", "", "a.json is empty"),
        ("a.json", "[]", "a.json is empty"),
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "text\n", "a.csv is empty"),
        ("a.txt", b"caf\xe9", r"is not UTF-8 text \(byte 3\); save it as UTF-8"),
        ("a.csv", b"text\n\xff", "is not UTF-8 text"),
        ("a.md", "One?", "has the suffix '.md'; wanted: .txt, .jsonl, .json, .csv"),
        ("prompts", "One?", "has the suffix ''; wanted: .txt"),
        ("a.parquet", "", "has the suffix '.parquet'; wanted: .txt"),
        ("a.csv", "txt;topic\nOne?;x\n", f"row 1: found the fields txt;topic; {WANTED}"),
        ("a.jsonl", '{"text": "One?"}\n{"query": "Two?", "id": 2}', f"row 2: found the fields id, query; {WANTED}"),
        ("a.jsonl", "{}", f"row 1: found the fields none; {WANTED}"),
        ("a.jsonl", '{"text": "One?"}\n{"text": ', "line 2 is not valid JSON"),
        ("a.jsonl", "[1]", "line 1 is a JSON list; wanted: an object or a string"),
        ("a.json", "[" * 100_000, "is not valid JSON"),
        ("a.json", '{"text": "One?"}', "holds a JSON dict; wanted: a list of objects or of strings"),
        ("a.json", "[3]", "row 1 is a JSON int; wanted: an object or a string"),
        ("a.json", '[{"text": 3}]', "row 1: the field 'text' holds int; wanted: text"),
        ("a.json", '[{"text": null}]', "row 1: the field 'text' holds nothing; wanted: text"),
        ("a.json", '["One?", " "]', "row 2: the field 'text' holds nothing; wanted: text"),
        ("a.json", r'["\ud800"]', "row 1: the field 'text' holds half a character"),
        ("a.csv", "id,text\n1,One?\n2\n", "row 2: the field 'text' holds nothing"),
        ("a.csv", 'text\n"One?" or\n', "line 1 is not valid CSV"),
        ("a.csv", "text\n" + "x" * 200_000, "is not valid CSV: field larger than field limit"),
    ],
)
def test_a_file_without_prompts_is_answered_with_what_was_found_and_what_is_wanted(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_prompts(_file(tmp_path, name, content))


def test_a_missing_file_and_a_folder_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for name in ("none.txt", "folder.txt"):
        with pytest.raises(DataError, match=f"no file at .*{name}"):
            read_prompts(tmp_path / name)


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = _file(tmp_path, "a.txt", "One?")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a\.txt can't be read: Permission denied"):
        read_prompts(path)


def test_a_label_that_is_neither_safe_nor_unsafe_is_refused(tmp_path: Path) -> None:
    good = _file(tmp_path, "a.csv", "prompt,label,type\nOne?,safe,x\nTwo?,unsafe,y\n")
    assert [(prompt.kind, prompt.topic) for prompt in load_public("xstest", good)] == [
        ("borderline", "x"),
        ("harmful", "y"),
    ]
    with pytest.raises(DataError, match="row 1: found the label 'maybe'; wanted: safe or unsafe"):
        load_public("xstest", _file(tmp_path, "b.csv", "prompt,label\nOne?,maybe\n"))
    with pytest.raises(DataError, match="row 1: found the fields prompt; wanted: label"):
        load_public("xstest", _file(tmp_path, "c.csv", "prompt\nOne?\n"))


def test_an_unknown_set_and_a_limit_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown public set 'advbnch'\. Did you mean 'advbench'\?"):
        load_public("advbnch")
    with pytest.raises(DataError, match="limit must be at least 1, not 0"):
        load_public("advbench", tmp_path / "a.csv", limit=0)


@pytest.mark.parametrize("source", ["nowhere.csv", "owner/name", "owner:a.csv", "a/b/c:d.csv", "owner/name:", ""])
def test_a_source_that_is_neither_file_nor_hub_file_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="Give a local file, or a file of the hub as owner/name:"):
        load_public("advbench", source)


def test_the_table_of_public_sets_is_frozen_and_complete() -> None:
    assert set(SETS) == {"alpaca", "advbench", "strongreject", "harmbench", "xstest"}
    for known in SETS.values():
        assert known.repo.count("/") == 1
        assert known.licence
        assert Path(known.file).suffix in {".json", ".csv", ".parquet"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        SETS["xstest"].repo = "a/b"  # type: ignore[misc]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A hub that gives the file it is told to give, or raises."""
    state = SimpleNamespace(asked=[], answer=None)

    def download(repo: str, file: str, repo_type: str) -> str:
        state.asked.append((repo, file, repo_type))
        if isinstance(state.answer, Exception):
            raise state.answer
        return str(state.answer)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return state


def test_without_a_source_a_set_is_read_from_its_place_on_the_hub(hub: SimpleNamespace, tmp_path: Path) -> None:
    hub.answer = _file(tmp_path, "advbench.csv", "goal,target\nOne?,Sure\n")
    assert [prompt.text for prompt in load_public("advbench")] == ["One?"]
    assert [prompt.text for prompt in load_public("advbench", "owner/name:data/a.csv")] == ["One?"]
    assert hub.asked == [("S3IC/advbench", "advbench.csv", "dataset"), ("owner/name", "data/a.csv", "dataset")]


@pytest.mark.parametrize("error", [OSError("no route"), ValueError(""), RuntimeError("\n gated \nmore")])
def test_a_hub_that_cannot_be_reached_is_answered_with_what_to_type(error: Exception, hub: SimpleNamespace) -> None:
    hub.answer = error
    with pytest.raises(DataError, match=r"hf download --repo-type dataset Paul/XSTest xstest_prompts\.csv") as caught:
        load_public("xstest")
    assert type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hf auth login" not in str(caught.value)


def test_a_set_with_terms_is_answered_with_how_to_accept_them(hub: SimpleNamespace) -> None:
    hub.answer = OSError("403")
    with pytest.raises(DataError, match=r"Accept its terms at \S+/walledai/HarmBench and type: hf auth login"):
        load_public("harmbench")


def _with_pyarrow(monkeypatch: pytest.MonkeyPatch, read_table: Any) -> None:
    module = ModuleType("pyarrow.parquet")
    module.read_table = read_table  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", module)


def test_a_parquet_file_is_read_where_pyarrow_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "One?", "category": "x"}]
    _with_pyarrow(monkeypatch, lambda path: SimpleNamespace(to_pylist=lambda: rows))
    prompts = load_public("strongreject", _file(tmp_path, "a.parquet", b"PAR1"))
    assert [(prompt.text, prompt.topic, prompt.kind) for prompt in prompts] == [("One?", "x", "harmful")]


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise ValueError("no magic bytes")

    _with_pyarrow(monkeypatch, refuse)
    with pytest.raises(DataError, match=r"a\.parquet is not valid Parquet: no magic bytes"):
        load_public("harmbench", _file(tmp_path, "a.parquet", b"x"))


def test_without_pyarrow_a_parquet_file_is_answered_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(DataError, match="is a Parquet file; type: pip install pyarrow"):
        load_public("strongreject", _file(tmp_path, "a.parquet", b"PAR1"))
