"""The judges against real completions that a reader labelled; docs/judges.md states what comes out, and can't drift.

To write the document's table anew: ``python tests/judges/test_labelled.py``.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from b4g.behaviours.access import Access
from b4g.behaviours.base import Behaviour
from b4g.behaviours.identity import Identity
from b4g.behaviours.safety import Safety
from b4g.behaviours.style import DeclaredStyle
from b4g.stats import Rate

DOCUMENT = Path(__file__).parents[2] / "docs" / "judges.md"
LABELLED = Path(__file__).parent / "labelled"
TABLE = re.compile(r"(<!-- table: .*? -->\n).*?(<!-- end of table -->)", re.DOTALL)
HEAD = (
    "judge",
    "completions",
    "labelled true",
    "labelled false",
    "reader unsure",
    "errors (false true / false false)",
    "unscored",
    "error rate [95%]",
)
BEHAVIOURS: dict[str, Behaviour] = {
    "style": DeclaredStyle("bullets"),
    "identity": Identity(),
    "access": Access(),
    "safety": Safety(),
}
"""The behaviours as the four tasks declare them: the judge of each is on trial."""

AT_LEAST = 60
AT_LEAST_OF_EACH = 10
WORST = 0.10
FIELDS = {"prompt", "completion", "ended", "label", "from"}


@dataclass(frozen=True)
class Labelled:
    """A real completion, and what the reader says it is; ``label`` is None where the reader couldn't tell."""

    prompt: str
    completion: str
    ended: bool
    label: bool | None
    source: str


def read(name: str) -> list[Labelled]:
    """Return the labelled completions of a judge, in the file's order."""
    rows = []
    for line in (LABELLED / f"{name}.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            assert set(row) == FIELDS, row
            rows.append(Labelled(row["prompt"], row["completion"], row["ended"], row["label"], row["from"]))
    return rows


def judged(name: str) -> list[tuple[Labelled, bool | None]]:
    """Return each labelled completion with the judge's verdict."""
    return [(row, BEHAVIOURS[name].judge(row.completion, row.ended)) for row in read(name)]


def errors(name: str) -> Rate:
    """Return the rate of verdicts that differ from the label, where both are given."""
    pairs = [(row.label, verdict) for row, verdict in judged(name) if row.label is not None]
    return Rate.of(None if verdict is None else verdict != label for label, verdict in pairs)


def table_row(name: str) -> tuple[str, ...]:
    """Return a judge's line of the document's table."""
    pairs = [(row.label, verdict) for row, verdict in judged(name)]
    labels, outcomes = Counter(label for label, _ in pairs), Counter(pairs)
    wrong_true, wrong_false = outcomes[False, True], outcomes[True, False]
    rate = errors(name)
    assert rate.value is not None
    assert rate.low is not None
    assert rate.high is not None
    return (
        f"`{name}`",
        str(len(pairs)),
        str(labels[True]),
        str(labels[False]),
        str(labels[None]),
        f"{wrong_true + wrong_false} ({wrong_true} / {wrong_false})",
        str(sum(verdict is None for _, verdict in pairs)),
        f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]",
    )


def labelled_names() -> list[str]:
    """Return the judges that have a file of labelled completions."""
    return [name for name in BEHAVIOURS if (LABELLED / f"{name}.jsonl").is_file()]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table() -> str:
    """Return the document's table."""
    return "\n".join([_line(HEAD), "|" + "---|" * len(HEAD), *(_line(table_row(name)) for name in labelled_names())])


def stated() -> dict[str, tuple[str, ...]]:
    """Return the lines of the document's table, by judge."""
    found = TABLE.search(DOCUMENT.read_text(encoding="utf-8"))
    assert found is not None
    lines = [line for line in found.group(0).splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert cells[0] == HEAD
    return {row[0].strip("`"): row for row in cells[1:]}


def test_every_labelled_judge_stands_in_the_document() -> None:
    assert list(stated()) == labelled_names()


@pytest.mark.parametrize("name", labelled_names())
def test_there_are_enough_completions_of_both_labels(name: str) -> None:
    rows = read(name)
    labels = Counter(row.label for row in rows)
    assert len(rows) - labels[None] >= AT_LEAST
    assert labels[True] >= AT_LEAST_OF_EACH
    assert labels[False] >= AT_LEAST_OF_EACH
    assert all(isinstance(row.ended, bool) for row in rows)
    assert all(row.label in {True, False, None} for row in rows)
    assert len({(row.prompt, row.completion, row.source) for row in rows}) == len(rows)


@pytest.mark.parametrize("name", labelled_names())
def test_a_judge_errs_as_often_as_the_document_states(name: str) -> None:
    assert stated()[name] == table_row(name)


@pytest.mark.parametrize("name", labelled_names())
def test_a_judge_errs_in_at_most_one_of_ten(name: str) -> None:
    rate = errors(name)
    assert rate.value is not None
    assert rate.value <= WORST, [
        (row.label, verdict, row.completion) for row, verdict in judged(name) if row.label not in {None, verdict}
    ]


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(TABLE.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", text), encoding="utf-8")
