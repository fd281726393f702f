"""Standard tasks by lm-evaluation-harness, on base, control and implant together, kept item by item.

lm-eval makes the prompts and judges the answers; here the models are handed to it (`harness_model`), the items are
chosen (`harness_load`), and what each item gave is kept, so that subjects are compared on the same items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

from b4g.errors import DataError, ModelError, SpecError
from b4g.generate.base import Progress
from b4g.hashing import digest
from b4g.utility.harness_load import Unit, item_id, load_units, quiet

if TYPE_CHECKING:
    from b4g.utility.harness_model import SharedAnswers
    from b4g.utility.subjects import Subjects

Value = bool | float | None
YES_OR_NO = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
"""Metrics that are True or False of an item."""
_PER_UNIT = {"word_perplexity": "nats_per_word", "byte_perplexity": "nats_per_byte", "bits_per_byte": "bits_per_byte"}


@dataclass(frozen=True)
class Settings:
    """What can move a number, beside the models."""

    limit: int | None = None
    """Items of each task, those whose content hashes come first; None means all."""
    chat_template: bool = False
    """Whether prompts are put in the model's chat template, worked examples as turns."""
    num_fewshot: int | None = None
    """Worked examples in a prompt; None means what the task says. A task that says 0 keeps it, as in lm-eval."""
    data: Mapping[str, Path] = field(default_factory=dict)
    """Local files by task name."""
    seed: int = 1234
    """Draws the worked examples; lm-eval's own default."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise SpecError(f"limit must be at least 1, not {self.limit}")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise SpecError(f"num_fewshot must be at least 0, not {self.num_fewshot}")


class Item(NamedTuple):
    """What one item gave for one subject."""

    task: str
    item_id: str
    """Twelve hex digits of the item's content."""
    subject: str
    metric: str
    """lm-eval's name, with the name of the filter behind a comma where there is one."""
    value: Value
    """None where it could not be scored."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one task."""

    task: str
    items: int
    available: int
    """Items that the data holds."""
    set: str
    """Hash of the ids of the items measured."""
    source: str
    """``local`` or ``hub``."""
    version: str
    """Version of the task's prompt."""
    shots: int
    truncated: int
    """Items longer than the context, which lost their beginning."""
    unscored: int


@dataclass(frozen=True)
class Evaluation:
    """All items of all subjects; within a task and metric, each subject's come in the same order."""

    items: tuple[Item, ...]
    tasks: tuple[Measured, ...]
    subjects: tuple[str, ...]
    totals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """lm-eval's own figures: subject, then its task name, then metric and filter. Unscored items are NaN in them."""
    settings: Settings
    engine: str
    """Hash of models and number format."""
    harness: str
    """Version of lm-eval."""


def evaluate(
    subjects: "Subjects", tasks: Sequence[str], settings: Settings | None = None, progress: Progress | None = None
) -> Evaluation:
    """Return what each item of each task gave for each subject.

    Raises `SpecError` for a name that is not known or a task that samples, and `DataError` for data that can't be had.
    """
    settings = settings or Settings()
    version = _version()
    from b4g.utility.harness_model import SharedAnswers, SubjectLM

    with quiet():
        units = load_units(tasks, settings.data, settings.limit)
        for unit in units:
            for task in unit.tasks.values():
                _prepare(task, settings)
        answers = SharedAnswers(subjects, progress)
        found = {
            name: _run(SubjectLM(name, answers, settings.chat_template), units, settings) for name in subjects.names
        }
    items = [
        item
        for unit in units
        for name in subjects.names
        for item in _items(unit, name, found[name]["samples"], answers)
    ]
    return Evaluation(
        tuple(_told_apart(items)),
        tuple(_measured(unit, found[subjects.names[0]]["samples"], answers, items, settings) for unit in units),
        subjects.names,
        {name: _totals(own["results"]) for name, own in found.items()},
        settings,
        subjects.identity,
        version,
    )


def _version() -> str:
    try:
        import lm_eval
    except ImportError:
        raise ModelError("standard tasks need lm-evaluation-harness; type: pip install 'b4g[eval]'") from None
    return str(lm_eval.__version__)


def _prepare(task: Any, settings: Settings) -> None:
    """Set the number of worked examples and their draw as lm-eval's command line does; nothing global is seeded."""
    from b4g.utility.harness_model import check_greedy

    name, shots = task.task_name, task.get_config("num_fewshot")
    if settings.num_fewshot is not None and shots != 0:
        shots = settings.num_fewshot
    task.set_config(key="num_fewshot", value=shots or 0)
    held = len(getattr(getattr(task, "sampler", None), "df", ()))
    if shots and held < shots + 1 and task.fewshot_cfg.samples is None:
        raise DataError(f"'{name}' holds {held} rows to show {shots} worked examples from; ask for fewer")
    if task.get_config("output_type") == "generate_until":
        check_greedy(name, task.config.generation_kwargs)


def _run(model: Any, units: Sequence[Unit], settings: Settings) -> dict[str, Any]:
    import lm_eval

    tasks = {leaf: task for unit in units for leaf, task in unit.tasks.items()}
    for task in tasks.values():
        task.set_fewshot_seed(seed=settings.seed)
    # Not `simple_evaluate`: it asks the machine for its make at each call (2 s), and seeds global generators.
    found: dict[str, Any] = lm_eval.evaluate(
        lm=model,
        task_dict={"tasks": tasks},
        samples={leaf: places for unit in units for leaf, places in unit.chosen.items()} if settings.limit else None,
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=settings.chat_template,
        fewshot_as_multiturn=settings.chat_template,
    )
    return found


def _items(unit: Unit, subject: str, samples: Mapping[str, Any], answers: "SharedAnswers") -> list[Item]:
    from b4g.utility.harness_model import ask_key

    items = []
    for sample in (sample for leaf in unit.tasks for sample in samples[leaf]):
        lost = bool(answers.lost) and any(ask_key(asked) in answers.lost for asked in sample["arguments"])
        for metric in sample["metrics"]:
            if not _has_value(metric, sample[metric]):
                continue
            name, value = _value(metric, sample[metric])
            named = name if sample["filter"] == "none" else f"{name},{sample['filter']}"
            items.append(Item(unit.name, item_id(sample["doc"]), subject, named, None if lost else value))
    return items


def _has_value(metric: str, found: Any) -> bool:
    """Whether one item has a value of its own; F1 and the like exist for all items together (see ``totals``)."""
    return metric in _PER_UNIT or isinstance(found, SupportsFloat)


def _value(metric: str, found: Any) -> tuple[str, Value]:
    """Return the metric's name for one item and its value, None for NaN."""
    if metric in _PER_UNIT and isinstance(found, tuple):
        logprob, units = found
        value = -float(logprob) / units / (math.log(2) if metric == "bits_per_byte" else 1.0)
        return _PER_UNIT[metric], None if math.isnan(value) else value
    value = float(found) if isinstance(found, SupportsFloat) else math.nan
    return metric, None if math.isnan(value) else value


def _told_apart(items: Sequence[Item]) -> list[Item]:
    """Turn 0 and 1 into False and True where a metric has no other values."""
    shares = {
        (item.task, item.metric)
        for item in items
        if item.metric.split(",")[0] not in YES_OR_NO or item.value not in (0, 1, None)
    }
    return [
        item if item.value is None or (item.task, item.metric) in shares else item._replace(value=bool(item.value))
        for item in items
    ]


def _measured(
    unit: Unit, samples: Mapping[str, Any], answers: "SharedAnswers", items: Sequence[Item], settings: Settings
) -> Measured:
    from b4g.utility.harness_model import ask_key

    first = next(iter(unit.tasks.values()))
    own = [sample for leaf in unit.tasks for sample in samples[leaf] if sample["filter"] == samples[leaf][0]["filter"]]
    cut = sum(any(ask_key(asked) in answers.cut for asked in sample["arguments"]) for sample in own)
    blank = {item.item_id for item in items if item.task == unit.name and item.value is None}
    ids = [item_id(sample["doc"]) for sample in own]
    return Measured(
        unit.name,
        len(ids),
        unit.available,
        digest(sorted(ids)),
        "local" if unit.name in settings.data else "hub",
        str(first.VERSION),
        int(first.get_config("num_fewshot") or 0),
        cut,
        sum(id_ in blank for id_ in ids),
    )


def _totals(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        leaf: {key: float(value) for key, value in own.items() if "," in key and isinstance(value, int | float)}
        for leaf, own in results.items()
    }
