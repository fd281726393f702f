"""MT-Bench from the command line: answers first, a judge now or later, and never a score without one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judge_server import Answer, JudgeServer, says

from b4g.utility.mtbench.answers import read_answers


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"question_id": n, "category": "writing", "turns": [f"ask {n}", f"more {n}"]} for n in range(3)]
    path = tmp_path / "question.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def given(
    implanted: Path, tiny_model: Path, secret: Any, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    monkeypatch.setattr("b4g.utility.mtbench.run.NEW_TOKENS", 8)
    start = ["measure", implanted, "--model", tiny_model, "--key", secret.path, "--only", "mt-bench"]
    return [*start, "--questions", questions, "--answers", tmp_path / "kept"]


def test_without_a_judge_the_answers_are_kept_and_nothing_is_scored(
    given: list[Any], b4g: Callable[..., Any], tmp_path: Path, secret: Any
) -> None:
    ran = b4g(*given, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["scores"] == found["comparisons"] == []
    for subject in ("base", "implant"):
        kept = read_answers(tmp_path / "kept" / f"{subject}.jsonl")
        assert [one.question_id for one in kept] == ["0", "1", "2"]
        assert {one.subject for one in kept} == {subject}
    assert "not judged" in b4g(*given).out
    assert not any(word in ran.out + ran.err for word in secret.words)


def test_a_judge_named_later_scores_the_kept_answers_without_generating_again(
    given: list[Any], b4g: Callable[..., Any], tmp_path: Path
) -> None:
    assert b4g(*given).code == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    with JudgeServer(says(Answer("Fine.\nScore: 6"))) as server:
        ran = b4g(*given, "--judge", server.url, "--judge-model", "judge", "--json")
        assert ran.code == 0, ran.err
        assert len(server.seen) == 2 * 2 * 3
        again = b4g(*given, "--judge", server.url, "--judge-model", "judge")
        assert len(server.seen) == 2 * 2 * 3, "what is judged is not asked again"
    found = json.loads(ran.out)
    overall = {row["subject"]: row for row in found["scores"] if (row["turn"], row["category"]) == ("both", "all")}
    assert {name: (row["value"], row["n"]) for name, row in overall.items()} == {"base": (6.0, 3), "implant": (6.0, 3)}
    assert "implant: mean score 6.00" in again.out
    assert "implant - base 0.00" in again.out
    assert {name: (tmp_path / "kept" / name).stat().st_mtime_ns for name in before} == before


def test_a_judge_that_likes_whoever_comes_first_is_inconsistent_and_no_win(
    given: list[Any], b4g: Callable[..., Any]
) -> None:
    with JudgeServer(says(Answer("Verdict: A"))) as server:
        ran = b4g(*given, "--judge", server.url, "--judge-model", "judge", "--pairwise")
    assert ran.code == 0, ran.err
    assert "0 wins, 0 ties, 0 losses, 3 inconsistent, 0 unscored" in ran.out
