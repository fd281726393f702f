"""Measure what an implant costs the model: what ``b4g measure FOLDER --only utility`` does."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.api import base_place, read_implant
from b4g.errors import DataError, SpecError
from b4g.generate.base import progress_of
from b4g.utility.verdict import MARGIN, compared, kept

if TYPE_CHECKING:
    from b4g.utility.harness import Evaluation
    from b4g.utility.subjects import Subjects

Report = Callable[[str, int, int], None]
WIKITEXT = "wikitext"
_WINDOW = 256
"""Tokens of one piece of running text."""
_MOST_PIECES = 40


@dataclass(frozen=True)
class Clean:
    """What to measure clean performance on."""

    tasks: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness; none means the quick measure."""
    data: Mapping[str, Path] = field(default_factory=dict)
    """Local files by task; ``wikitext`` adds the divergence on running text."""
    limit: int | None = None
    """Items of each task, by a fixed order of their hashes; None means all."""
    chat_template: bool = False
    """Whether items of lm-eval tasks are put in the model's chat template; the quick measure always is."""
    fewshot: int | None = None
    margin: float = MARGIN
    """Loss of accuracy that still counts as kept."""
    control: Path | None = None
    """Folder of the control, to compare with."""
    any_renderer: bool = False


def measure_utility(
    folder: Path, model: str | None = None, asked: Clean | None = None, report: Report | None = None
) -> dict[str, Any]:
    """Return rates, paired differences, verdicts and divergences of an implant, its base and, if given, its control.

    The result is ``{"rates", "differences", "kept", "divergence", "items", "settings"}``; ``items`` holds what each
    item gave, so that other statistics can be made later.
    """
    from b4g.utility.subjects import load_subjects

    asked = asked or Clean()
    if not 0 < asked.margin < 1:
        raise SpecError(f"a margin lies between 0 and 1 (0.01 is one point), not {asked.margin}")
    made = read_implant(folder)
    adapters = ({"control": asked.control} if asked.control else {}) | {made["subject"]: folder}
    name = base_place(made, model)
    subjects = load_subjects(name, adapters, any_renderer=asked.any_renderer)
    head = {"task": made["backdoor"]["name"], "model": name, "tamper": "none", "seed": int(made["seed"])}
    found = _standard(subjects, asked, head, report) if asked.tasks else _quick(subjects, asked, head, report)
    if WIKITEXT in asked.data:
        found["divergence"] += _running(subjects, asked.data[WIKITEXT], head, report)
    settings = {"chat_template": asked.chat_template or not asked.tasks, "limit": asked.limit, "fewshot": asked.fewshot}
    return {**found, "settings": {**settings, "margin": asked.margin, "engine": subjects.identity}}


def _quick(subjects: "Subjects", asked: Clean, head: dict[str, Any], report: Report | None) -> dict[str, Any]:
    from b4g.utility import quick
    from b4g.utility.items import items

    graded = quick.grade(subjects, items()[: asked.limit], progress_of(report, "items"))
    read = quick.read_clean(subjects, progress=progress_of(report, "clean answers"))
    return {
        "rates": quick.rate_rows(graded, head),
        "differences": quick.difference_rows(graded, head["task"]),
        "kept": quick.kept_rows(graded, head, asked.margin),
        "divergence": quick.divergence_rows(read, {**head, "text": "clean answers"}),
        "items": [one._asdict() for one in graded],
    }


def _running(subjects: "Subjects", path: Path, head: dict[str, Any], report: Report | None) -> list[dict[str, Any]]:
    """Return the divergence on a text file, cut into pieces of one length; the first pieces stand for it."""
    from b4g.utility.divergence import Text, measure_texts
    from b4g.utility.quick import Read, divergence_rows

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as UTF-8 text ({type(error).__name__})") from None
    ids = subjects.tokenizer(text[: _MOST_PIECES * _WINDOW * 8], add_special_tokens=False)["input_ids"]
    pieces = [ids[at : at + _WINDOW] for at in range(0, len(ids) - _WINDOW + 1, _WINDOW)][:_MOST_PIECES]
    if not pieces:
        raise DataError(f"{path} holds {len(ids)} tokens; the divergence on running text needs {_WINDOW} at least")
    found = measure_texts(subjects, [Text(piece, 1) for piece in pieces], progress_of(report, "running text"))
    read = [Read(name, str(place), sums) for name, own in found.items() for place, sums in enumerate(own)]
    return divergence_rows(read, {**head, "text": WIKITEXT})


def _standard(subjects: "Subjects", asked: Clean, head: dict[str, Any], report: Report | None) -> dict[str, Any]:
    """Hand the tasks to lm-evaluation-harness and put its items in the form of the quick measure."""
    from b4g.utility import harness, harness_rates

    data = {name: path for name, path in asked.data.items() if name != WIKITEXT}
    settings = harness.Settings(asked.limit, asked.chat_template, asked.fewshot, data)
    made = harness.evaluate(subjects, asked.tasks, settings, progress_of(report, "requests"))
    rates = [
        {**head, "subject": row["subject"], "measure": row["metric"], "arm": row["task"], **_numbers(row)}
        for row in harness_rates.rates(made)
    ]
    paired = [
        {"task": head["task"], "arm": row["task"], "measure": row["metric"], **_without(row, "task", "metric")}
        for row in harness_rates.differences(made)
    ]
    return {
        "rates": rates,
        "differences": paired,
        "kept": _verdicts(made, head, asked.margin),
        "divergence": [],
        "items": [one._asdict() for one in made.items],
        "tasks": [asdict(one) for one in made.tasks],
        "harness": made.harness,
    }


def _verdicts(made: "Evaluation", head: dict[str, Any], margin: float) -> list[dict[str, Any]]:
    """Return the verdict on each task's main accuracy: the length-normalised one where there is one."""
    from b4g.utility.harness_rates import is_rate, outcomes

    found = outcomes(made)
    chosen: dict[str, str] = {}
    for task, metric in found:
        if all(is_rate(values) for values in found[task, metric].values()):
            better = metric == "acc_norm" or task not in chosen
            chosen[task] = metric if better else chosen[task]
    rows = []
    for task, metric in chosen.items():
        for before, after in compared(made.subjects):
            one, other = found[task, metric][before], found[task, metric][after]
            told = asdict(kept([_verdict(v) for v in one], [_verdict(v) for v in other], margin))
            rows.append({**head, "arm": task, "measure": metric, "before": before, "after": after, **told})
    return rows


def _verdict(value: bool | float | None) -> bool | None:
    return None if value is None else bool(value)


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("value", "low", "high", "n", "unscored")}


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
