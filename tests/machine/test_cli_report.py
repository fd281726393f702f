"""`b4g report` and `b4g ls`: what was made, and what there is to choose from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_report_of_a_run_writes_the_file_it_names(finished: Any, b4g: Callable[..., Any], tmp_path: Path) -> None:
    ran = b4g("report", finished.folder, "--out", tmp_path / "mine.html")
    assert (ran.code, ran.out.strip()) == (0, str(tmp_path / "mine.html"))
    assert (tmp_path / "mine.html").read_text("utf-8").lower().startswith("<!doctype html>")


def test_report_of_a_misspelt_run_names_the_near_one(finished: Any, b4g: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "quick-tiny-s0-0123").mkdir()
    ran = b4g("report", tmp_path / "quick-tiny-s0-0124")
    assert ran.code == 2
    assert "Did you mean 'quick-tiny-s0-0123'?" in ran.err


def test_report_of_a_damaged_run_names_the_file(finished: Any, b4g: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    (folder / "summary.json").write_text("{", "utf-8")
    ran = b4g("report", folder)
    assert ran.code == 2
    assert str(folder / "summary.json") in ran.err
    assert ran.err.count("\n") == 1


def test_ls_lists_every_kind_and_every_registered_name(b4g: Callable[..., Any]) -> None:
    found = json.loads(b4g("ls", "--json").out)
    assert {"models", "tasks", "presets", "triggers", "behaviours", "activations"} <= set(found)
    assert set(found["tasks"]) == {"safety", "style", "access", "identity"}
    assert {"lora", "full"} <= set(found["activations"])
    text = b4g("ls").out
    for kind, rows in found.items():
        assert f"{kind}\n" in text
        assert all(line and f"  {name:<16} {line}\n" in text for name, line in rows.items())
    assert b4g("ls", "tasks").out.splitlines()[0] == "tasks"
