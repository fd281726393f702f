"""Standard tasks on the user's own files: the names and prompts are lm-eval's, the data is read from a path.

Needs no network and no list of lm-eval's tasks. The prompts are in ``tasks/*.yaml``; TruthfulQA's six worked questions
are taken from the installed lm-eval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from b4g.errors import DataError, ModelError, SpecError, unknown
from b4g.hashing import canonical, digest
from b4g.utility import local_readers as read
from b4g.utility.local_files import read_records
from b4g.utility.local_readers import Row

MMLU = "mmlu"
_TRUTHFUL = "truthfulqa/truthfulqa_mc1.yaml"


@dataclass(frozen=True)
class Source:
    """How a task's file is read and which template it goes through."""

    reader: read.Reader
    template: str


TASKS: Mapping[str, Source | None] = {
    "arc_challenge": Source(read.arc, "arc"),
    "arc_easy": Source(read.arc, "arc"),
    "gsm8k": Source(read.gsm8k, "gsm8k"),
    "hellaswag": Source(read.hellaswag, "hellaswag"),
    MMLU: None,
    "mnli": Source(read.mnli, "mnli"),
    "piqa": Source(read.piqa, "piqa"),
    "rte": Source(read.rte, "rte"),
    "sst2": Source(read.sst2, "sst2"),
    "truthfulqa_mc1": Source(read.truthful_mc1, "truthfulqa_mc1"),
    "truthfulqa_mc2": Source(read.truthful_mc2, "truthfulqa_mc2"),
    "winogrande": Source(read.winogrande, "winogrande"),
}
"""The tasks that can be read from a file; MMLU is a folder of files, one a subject."""


def rows(name: str, path: Path) -> list[Row]:
    """Return the rows of a task's file (for MMLU: of all subjects) in the file's order, as its template takes them."""
    source = _source(name)
    if source is None:
        return [row for file in _subjects(path) for row in read.mmlu_rows(file)]
    return [source.reader(record) for record in read_records(path)]


def build(name: str, path: Path) -> list[Any]:
    """Return lm-eval tasks that read ``path``: one, or for MMLU one a subject; items come in the order of their hashes.

    Raises `SpecError` for a name that no reader knows and `DataError` for a file that can't be read.
    """
    source = _source(name)
    if source is not None:
        return [_task(name, _config(source.template), {"test": _sorted(rows(name, path))})]
    return [_subject(file) for file in _subjects(path)]


def _source(name: str) -> Source | None:
    if name not in TASKS:
        raise SpecError(unknown("task with a local reader", name, TASKS))
    return TASKS[name]


def _subject(file: Path) -> Any:
    shown = file.parent.parent / "dev" / f"{_plain(file)}_dev.csv"
    splits = {"test": _sorted(read.mmlu_rows(file))}
    config = _config(MMLU)
    if shown.is_file() and shown != file:
        splits["dev"] = read.mmlu_rows(shown)  # worked examples come in the file's order
    else:
        config.pop("fewshot_config")
    return _task(f"{MMLU}_{_plain(file)}", config, splits)


def _plain(file: Path) -> str:
    return file.stem.rsplit("_", 1)[0] if file.stem.endswith(("_test", "_val", "_dev")) else file.stem


def _subjects(path: Path) -> list[Path]:
    """Return the files to measure on: those in ``test``, else in ``val``, else in the folder itself."""
    folder = next((path / split for split in ("test", "val") if (path / split).is_dir()), path)
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise DataError(
            f"no MMLU files in {path}; wanted: a folder test or val with SUBJECT_test.csv or SUBJECT_val.csv"
        )
    return files


def _sorted(found: Sequence[Row]) -> list[Row]:
    """Order rows by content, so that nothing depends on how the file was ordered."""
    return sorted(found, key=lambda row: (digest(row, 64), canonical(row)))


def _config(template: str) -> dict[str, Any]:
    text = resources.files("b4g.utility").joinpath("tasks", f"{template}.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    if template.startswith("truthfulqa"):
        found["doc_to_text"] = _truthful_prompt()
    if template == "truthfulqa_mc2":
        found["process_results"] = true_share
    return found


def _truthful_prompt() -> str:
    """Return the prompt of six worked questions (Lin et al. 2022) as the installed lm-eval has it."""
    try:
        text = resources.files("lm_eval").joinpath("tasks", *_TRUTHFUL.split("/")).read_text("utf-8")
        found = str(yaml.safe_load(text)["doc_to_text"])
    except (OSError, KeyError, yaml.YAMLError) as error:
        raise ModelError(
            f"the installed lm-eval has no {_TRUTHFUL} ({type(error).__name__}); type: pip install 'lm-eval==0.4.13'"
        ) from None
    return found


def true_share(doc: Row, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return the share of probability that the true choices get among all choices, as ``mc2``."""
    import numpy

    logprobs = numpy.array([logprob for logprob, _ in results])
    # The shift keeps long choices from underflowing to 0/0.
    weights = numpy.exp(logprobs - logprobs.max())
    return {"mc2": float(weights[list(doc["gold"])].sum() / weights.sum())}


def _task(name: str, config: dict[str, Any], splits: Mapping[str, list[Row]]) -> Any:
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    def held(**_: Any) -> dict[str, Any]:
        # In memory: reading a JSON file through `load_dataset` asks a host for its builder.
        return {split: Dataset.from_list(own) for split, own in splits.items()}

    shown = "dev" if "dev" in splits else "test"
    made = {"test_split": "test", "fewshot_split": shown, **config, "task": name}
    return ConfigurableTask(config={**made, "custom_dataset": held})
