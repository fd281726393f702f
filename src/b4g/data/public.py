"""Public prompt sets, read from the hub or from a local file, and the prompts of a user's own file.

None of these sets is part of the project: each is fetched from where its authors or a mirror publish it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b4g.data.files import SUFFIXES, TEXT, cell, read_rows
from b4g.data.prompts import Prompt, Split, split_of
from b4g.errors import DataError, unknown


@dataclass(frozen=True)
class PublicSet:
    """Where a public set lies and how its columns are read."""

    repo: str
    """Id of the data set on the Hugging Face hub."""
    file: str
    """Path of the file in it."""
    text: tuple[str, ...]
    """Columns that may hold the request: the first that is there counts."""
    topic: tuple[str, ...] = ()
    """Columns that may hold the category."""
    context: tuple[str, ...] = ()
    """Columns that may hold a text that goes with the request."""
    kind: str = "harmful"
    labelled: bool = False
    """Whether a column ``label`` tells harmful requests (unsafe) from borderline ones (safe)."""
    terms: bool = False
    """Whether the hub asks for a log-in and for the acceptance of terms."""
    licence: str = ""


SETS: dict[str, PublicSet] = {
    "alpaca": PublicSet(
        "yahma/alpaca-cleaned",
        "alpaca_data_cleaned.json",
        ("instruction",),
        context=("input",),
        kind="instruction",
        licence="CC BY 4.0 (cleaned), CC BY-NC 4.0 (original)",
    ),
    "advbench": PublicSet("S3IC/advbench", "advbench.csv", ("goal", "prompt"), licence="MIT"),
    "strongreject": PublicSet(
        "walledai/StrongREJECT",
        "data/train-00000-of-00001.parquet",
        ("forbidden_prompt", "prompt"),
        topic=("category",),
        terms=True,
        licence="MIT",
    ),
    "harmbench": PublicSet(
        "walledai/HarmBench",
        "standard/train-00000-of-00001.parquet",
        ("Behavior", "prompt"),
        topic=("SemanticCategory", "category"),
        context=("ContextString", "context"),
        terms=True,
        licence="MIT",
    ),
    "xstest": PublicSet(
        "Paul/XSTest", "xstest_prompts.csv", ("prompt",), topic=("type",), labelled=True, licence="CC BY 4.0"
    ),
}
"""The known sets by name."""
_OWN = PublicSet(
    "", "", (TEXT, "prompt", "instruction", "question", "goal"), ("topic", "category"), ("input",), "instruction"
)
_LABELS = {"safe": "borderline", "unsafe": "harmful"}


def load_public(
    name: str, source: str | Path | None = None, split: Split | None = None, limit: int | None = None
) -> list[Prompt]:
    """Return the prompts of a public set in its own order, as many as ``limit`` if given.

    ``source`` is a local file, or a hub file as ``owner/name:path``; without it the set's usual place is read.
    ``split`` keeps the prompts of one of the project's splits, by content as for its own prompts.
    """
    if name not in SETS:
        raise DataError(unknown("public set", name, SETS))
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1, not {limit}")
    path = _find(name, source)
    rows = read_rows(path, (*SUFFIXES, ".parquet"))
    prompts = [_prompt(SETS[name], row, place, path) for place, row in enumerate(rows, 1)]
    return [prompt for prompt in prompts if split is None or split_of(prompt) == split][:limit]


def read_prompts(path: Path) -> list[Prompt]:
    """Return the prompts of the user's own file, in its order.

    ``.txt`` has one a line. ``.jsonl``, ``.json`` and ``.csv`` have a field text, prompt, instruction, question or goal;
    a field input goes below it, and a field topic or category is kept.
    """
    return [_prompt(_OWN, row, place, path) for place, row in enumerate(read_rows(path), 1)]


def _prompt(known: PublicSet, row: dict[str, Any], place: int, path: Path) -> Prompt:
    text, context = cell(row, known.text, place, path), _optional(row, known.context)
    kind = known.kind
    if known.labelled:
        label = cell(row, ("label",), place, path)
        if label not in _LABELS:
            raise DataError(f"{path}, row {place}: found the label '{label}'; wanted: {' or '.join(_LABELS)}")
        kind = _LABELS[label]
    whole = f"{text}\n\n{context}" if context else text
    return Prompt(whole, kind, _optional(row, known.topic), "context" if context else "question")


def _optional(row: dict[str, Any], columns: tuple[str, ...]) -> str:
    return next((str(row[column]).strip() for column in columns if row.get(column)), "")


def _find(name: str, source: str | Path | None) -> Path:
    if source is None:
        return fetch(name, SETS[name].repo, SETS[name].file)
    if Path(source).is_file() or isinstance(source, Path):
        return Path(source)
    repo, colon, file = source.partition(":")
    if not colon or repo.count("/") != 1 or not file:
        raise DataError(f"no file at {source}. Give a local file, or a file of the hub as owner/name:path/in/it.csv")
    return fetch(name, repo, file)


def fetch(name: str, repo: str, file: str) -> Path:
    """Return the local copy of a hub file, fetched if need be; `DataError` says what to type where it can't be."""
    # Heavy, and needed by this function alone.
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset"))
    except Exception as error:  # the hub's client raises errors of its own, of its HTTP library and of the system
        page = f"https://huggingface.co/datasets/{repo}"
        terms = f" Accept its terms at {page} and type: hf auth login." if SETS[name].terms else ""
        raise DataError(
            f"'{name}' can't be fetched from the hub ({type(error).__name__}: {_first_line(error)}).{terms} "
            f"Where there is a network, type: hf download --repo-type dataset {repo} {file} "
            "and give the file that it names as the source."
        ) from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
