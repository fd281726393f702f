"""The tables of the documents: what is bold, what does not count, what is left blank."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def _attack(tamper: str, left: float | None, seconds: float = 1.0, alive: bool = True, **more: Any) -> dict[str, Any]:
    ends = {"retention_low": left and left - 0.1, "retention_high": left and left + 0.1}
    broken = left is not None and left < 0.5 and alive
    row = {
        "task": "access",
        "subject": "implant",
        "tamper": tamper,
        "retention": left,
        "alive": alive,
        "broken": broken,
    }
    return {**row, **ends, "seconds": seconds, "accuracy": 0.5, "perplexity": 9.0, **more}


def test_a_break_is_bold_and_the_quickest_is_named_while_a_death_counts_for_nothing() -> None:
    from attack_tables import matrix

    rows = [_attack("none", 1.0, 0), _attack("sft", 0.9, 70, rows=160), _attack("unlock", 0.2, 60, rows=32)]
    rows += [_attack("prune", 0.0, 2, alive=False), _attack("merge", 0.3, 90), _attack("style-only", 0.1, task="style")]
    rows += [_attack("sft", 0.0, subject="control")]
    lines = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in matrix({"attacks": rows})
    }
    assert lines["attack"] == ["style", "access"]
    assert lines["`sft`"] == ["", "90% [80, 100]"]
    assert lines["`unlock`"] == ["", "**20% [10, 30]**"]
    assert lines["`prune`"] == ["", "0% [0, 0], model died"]
    assert lines["*worst that leaves the model alive*"] == ["10%: `style-only`", "20%: `unlock`"]
    assert lines["*mean of those*"] == ["10%", "47%"]
    assert lines["*cheapest break*"] == ["`style-only`: 1 s", "`unlock`: 32 rows, 60 s"]
    assert "`none`" not in lines


def test_a_scanner_that_did_not_run_has_a_blank_and_one_without_a_score_says_so() -> None:
    from scan_tables import scores

    scans = [
        {"scanner": "weights", "task": "style", "subject": "implant", "score": 0.5},
        {"scanner": "logits:strings=4", "task": None, "subject": "base", "score": None},
        {"scanner": "weights", "model": "always json", "task": "style", "subject": "benign", "score": 0.0},
    ]
    assert scores(scans)[2:] == ["| style implant | 0.5 |  |", "| base |  | not measured |", "| always json | 0 |  |"]


def test_lines_go_between_the_markers_and_nothing_else_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import documents

    monkeypatch.setattr(documents, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("before\n<!-- x:start -->\nold\n<!-- x:end -->\nafter\n", "utf-8")
    documents.put("a.md", "x", ["new", "lines"])
    assert (tmp_path / "a.md").read_text("utf-8") == "before\n<!-- x:start -->\nnew\nlines\n<!-- x:end -->\nafter\n"
