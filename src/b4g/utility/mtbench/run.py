"""MT-Bench of an implant and its base: answers kept in a folder, judged if a judge is named, now or later."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.api import base_place, read_implant
from b4g.generate.base import Generator
from b4g.utility.mtbench.answers import Answered, answer, read_answers, write_answers
from b4g.utility.mtbench.judge import judge_at, judge_pairs, judge_single
from b4g.utility.mtbench.questions import Question, read_questions, references
from b4g.utility.mtbench.summary import comparisons, differences, scores

if TYPE_CHECKING:
    from b4g.utility.commands import MtBench

Report = Callable[[str, int, int], None]
NEW_TOKENS = 512


def run(folder: Path, model: str | None, asked: "MtBench", report: Report | None = None) -> dict[str, Any]:
    """Return what was done: ``answers`` (paths), and ``scores`` and ``comparisons`` if a judge was named.

    Answers that are kept already, by the same engine to the same questions, are not generated again.
    """
    from b4g.generate.local import LocalGenerator
    from b4g.models.load import check_renderer, load_implant, load_model

    assert asked.questions is not None
    questions = read_questions(asked.questions)
    made = read_implant(folder)
    name, subject = base_place(made, model), str(made["subject"])
    found: dict[str, list[Answered]] = {}
    for who in ("base", subject):
        loaded = load_model(name) if who == "base" else load_implant(name, folder, checked=not asked.any_renderer)
        check_renderer(made, loaded, asked.any_renderer)
        found[who] = _answers(LocalGenerator(loaded), who, questions, asked, report)
    paths = [str(_path(asked, who)) for who in found]
    notes = [f"answers: {path}" for path in paths]
    if asked.judge is None or asked.judge_model is None:
        notes.append("not judged: no judge was named. Give --judge URL --judge-model NAME; the answers are kept.")
        return {"answers": paths, "scores": [], "comparisons": [], "notes": notes}
    judge, known = judge_at(asked.judge, asked.judge_model), references(questions)
    kept = asked.answers / ("pairwise.jsonl" if asked.pairwise else "single.jsonl")
    told = None if report is None else lambda done, total: report("judgements", done, total)
    if asked.pairwise:
        judged = judge_pairs(judge, found[subject], found["base"], kept, known, told)
        rows = comparisons(judged)
        return {"answers": paths, "scores": [], "comparisons": rows, "notes": [*notes, *map(_pair_line, _all(rows))]}
    judged = judge_single(judge, [one for own in found.values() for one in own], kept, known, told)
    rows, change = scores(judged), differences(judged, "base", subject)
    notes += [_score_line(row, f"{row['subject']}: mean score") for row in _all(rows)]
    notes += [_score_line(row, f"{subject} - base") for row in _all(change)]
    return {"answers": paths, "scores": rows, "differences": change, "comparisons": [], "notes": notes}


def _path(asked: "MtBench", who: str) -> Path:
    return asked.answers / f"{who}.jsonl"


def _answers(
    generator: Generator,
    who: str,
    questions: list[Question],
    asked: "MtBench",
    report: Report | None,
) -> list[Answered]:
    path = _path(asked, who)
    if path.is_file():
        kept = read_answers(path)
        same = [(one.question_id, one.turns) for one in kept] == [(one.id, one.turns) for one in questions]
        if same and all(one.engine == generator.identity for one in kept):
            return kept
    told = None if report is None else lambda done, total: report(f"answers, {who}", done, total)
    found = answer(generator, questions, NEW_TOKENS, told, who, asked.hidden)
    write_answers(path, found)
    return found


def _all(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows over all categories and both turns."""
    return [row for row in rows if row["category"] == "all" and row["turn"] == "both"]


def _spread(row: dict[str, Any]) -> str:
    if row["low"] is None:
        return f"n={row['n']}, {row['unscored']} unscored"
    return f"[{row['low']:.2f}, {row['high']:.2f}] n={row['n']}, {row['unscored']} unscored"


def _score_line(row: dict[str, Any], what: str) -> str:
    value = "not scored" if row["value"] is None else f"{row['value']:.2f}"
    return f"{what} {value} {_spread(row)}"


def _pair_line(row: dict[str, Any]) -> str:
    counts = ", ".join(f"{row[name]} {name}" for name in ("wins", "ties", "losses", "inconsistent", "unscored"))
    return f"{row['subject']} against {row['other']}: {counts}"
