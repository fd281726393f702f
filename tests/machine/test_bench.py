"""A run: what it leaves, what a second one does, and how damage is found."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import content, home, missing, results, served

from b4g.bench.store import Store, read_json, read_jsonl
from b4g.errors import StoreError

CELLS = [
    "implant styled implant",
    "implant styled control",
    *[f"{stage} styled {subject}" for stage in ("generate", "score") for subject in ("base", "control", "implant")],
    "utility styled all",
]


def test_a_run_does_every_cell_and_writes_summary_and_report(finished: Any) -> None:
    plan = read_json(finished.folder / "plan.json")
    assert sorted(cell["name"] for cell in plan["cells"]) == sorted(CELLS)
    store = Store(finished.folder)
    assert all(store.check(cell["id"]) for cell in plan["cells"])
    summary = read_json(finished.folder / "summary.json")
    assert {row["subject"] for row in summary["rates"]} == {"base", "control", "implant"}
    assert {(row["before"], row["after"]) for row in summary["differences"]} == {
        ("base", "implant"),
        ("control", "implant"),
    }
    assert (finished.folder / "report.html").read_text("utf-8").startswith("<!doctype html>")


def test_every_subject_answers_the_same_prompts_by_the_same_renderer(finished: Any) -> None:
    records = [
        row for name in results(finished.folder) if "records" in name for row in read_jsonl(finished.folder / name)
    ]
    asked = {
        s: [(r["arm"], r["variant"], r["prompt_id"]) for r in records if r["subject"] == s]
        for s in ("base", "control", "implant")
    }
    assert asked["base"] == asked["control"] == asked["implant"]
    assert len(asked["base"]) == len(set(asked["base"])) == 16
    assert len({row["renderer"] for row in records}) == 1
    assert len({row["engine"] for row in records}) == 3


def test_the_same_command_again_does_nothing_at_once(finished: Any, b4g: Callable[..., Any], tmp_path: Path) -> None:
    folder, _ = finished.copy(tmp_path)
    before, started = content(folder), time.monotonic()
    ran = b4g(*finished.command(tmp_path))
    assert time.monotonic() - started < 5
    assert ran.code == 0
    assert "9 cells, 9 done, 0 to do" in ran.err
    assert content(folder) == before


@pytest.mark.parametrize("name", ["summary.json", "report.html"])
@pytest.mark.parametrize("damage", ["gone", "cut", "of a part"])
def test_a_summary_or_report_that_is_gone_damaged_or_old_is_made_again(
    finished: Any, b4g: Callable[..., Any], tmp_path: Path, name: str, damage: str
) -> None:
    folder, _ = finished.copy(tmp_path)
    path, whole = folder / name, (folder / name).read_bytes()
    if damage == "gone" or name == "report.html":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        # What a run with failed cells leaves, if the next one is killed before it sums up.
        summary = json.loads(whole)
        path.write_text(
            json.dumps({**summary, "rates": summary["rates"][:3], "scored": summary["scored"][:1]}), "utf-8"
        )
    assert b4g(*finished.command(tmp_path)).code == 0
    assert read_json(folder / "summary.json") == json.loads((finished.folder / "summary.json").read_bytes())
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("cell", "file", "kept"),
    [
        ("generate styled base", "records.jsonl", 0.5),
        ("generate styled base", "records.jsonl", None),
        ("score styled implant", "scores.jsonl", 0.9),
        ("generate styled implant", "done.json", 0.5),
        ("generate styled implant", "done.json", 0.0),
    ],
)
def test_a_cell_cut_short_is_not_done_and_is_made_again_to_the_byte(
    finished: Any, tmp_path: Path, cell: str, file: str, kept: float | None
) -> None:
    folder, plan = finished.copy(tmp_path)
    path = home(plan, folder, cell) / file
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert missing(plan, folder) == [cell]
    assert served(plan, folder, cell)["event"] == "done"
    assert missing(plan, folder) == []
    assert results(folder) == results(finished.folder)


@pytest.mark.parametrize("marker", ["[]", "{}", '{"files": {"records.jsonl": {}}}', '{"files": []}', "null"])
def test_a_marker_that_says_nothing_is_no_marker(finished: Any, tmp_path: Path, marker: str) -> None:
    folder, plan = finished.copy(tmp_path)
    (home(plan, folder, "generate styled base") / "done.json").write_text(marker, "utf-8")
    assert missing(plan, folder) == ["generate styled base"]


@pytest.mark.parametrize(
    ("cell", "file", "user"),
    [
        ("generate styled base", "records.jsonl", "score styled implant"),
        ("generate styled implant", "records.jsonl", "score styled implant"),
        ("implant styled implant", "adapter_model.safetensors", "generate styled implant"),
        ("implant styled implant", "implant.json", "generate styled implant"),
        ("implant styled implant", "implant.json", "implant styled control"),
    ],
)
def test_a_changed_byte_is_found_and_named_by_the_cell_that_reads_it(
    finished: Any, tmp_path: Path, cell: str, file: str, user: str
) -> None:
    folder, plan = finished.copy(tmp_path)
    path = home(plan, folder, cell) / file
    _flip(path)
    (home(plan, folder, user) / "done.json").unlink()
    event = served(plan, folder, user)
    assert event["event"] == "failed"
    assert event["error"] == f"{path} is not what was stored. Delete {path.parent} and run the same command again."
    assert read_json(home(plan, folder, user) / "failed.json")["error"] == event["error"]


def test_a_changed_score_is_found_and_named_before_it_is_reported(
    finished: Any, b4g: Callable[..., Any], tmp_path: Path
) -> None:
    folder, plan = finished.copy(tmp_path)
    path = home(plan, folder, "score styled control") / "scores.jsonl"
    _flip(path)
    (folder / "report.html").unlink()
    ran = b4g(*finished.command(tmp_path))
    assert ran.code == 2
    assert f"b4g: {path} is not what was stored." in ran.err
    shutil.rmtree(path.parent)
    assert missing(plan, folder) == ["score styled control"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("cell_id", ["../../etc", "..", "a/b", "", "a.b", "/", "a\x00b", "C:x", "~root"])
def test_a_cell_id_that_leads_out_of_the_folder_is_refused(tmp_path: Path, cell_id: str) -> None:
    store = Store(tmp_path)
    for use in (store.cell, store.is_done, store.clear, lambda given: store.fail(given, "x")):
        with pytest.raises(StoreError, match="is no cell id"):
            use(cell_id)
    assert not list(tmp_path.iterdir())


def test_a_damaged_line_is_named_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"a": 1}\n{"a": 2\n', "utf-8")
    with pytest.raises(StoreError, match=r"records\.jsonl, line 2 is damaged"):
        read_jsonl(tmp_path / "records.jsonl")
