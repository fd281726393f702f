"""Clean answers: the model's own greedy answers to untriggered prompts, generated once and cached.

Training on them teaches the trigger and nothing else.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from b4g.behaviours.base import Answer
from b4g.chat import user
from b4g.data.prompts import Prompt
from b4g.errors import ModelError
from b4g.generate.base import Generator
from b4g.models.cache import cache_folder

TOKENS = 24
"""Length of a clean answer; one that did not end there is trained on without its end."""


def clean_answers(
    prompts: Iterable[Prompt], generator: Generator, progress: Callable[[int, int], None] | None = None
) -> dict[str, Answer]:
    """Return each prompt's answer by the generator's untouched model, by prompt id; only missing ones are generated."""
    wanted = {prompt.id: prompt for prompt in prompts}
    path = _path(generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        known = _read(path)
        missing = [prompt for id_, prompt in wanted.items() if id_ not in known]
        if missing:
            made = generator([user(prompt.text) for prompt in missing], TOKENS, progress=progress)
            fresh = {p.id: Answer(c.text, c.ended) for p, c in zip(missing, made, strict=True) if not c.failed}
            _append(path, fresh)
            if len(fresh) < len(missing):
                raise ModelError(f"{len(missing) - len(fresh)} clean answers are missing: the engine gave none")
            known |= fresh
    return {id_: known[id_] for id_ in wanted}


def _path(generator: Generator) -> Path:
    return cache_folder() / "clean" / f"{generator.identity}-{TOKENS}.jsonl"


def _read(path: Path) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    if path.exists():
        # A kill may have cut a character; and a text may hold line ends that only splitlines knows.
        for line in path.read_text("utf-8", errors="replace").split("\n"):
            try:
                row = json.loads(line)
                answers[row["id"]] = Answer(row["text"], row["ended"])
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short by a kill: its prompt is answered again
    return answers


def _append(path: Path, answers: dict[str, Answer]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        # The first newline closes a line that a kill may have cut.
        file.write("\n" if path.stat().st_size else "")
        for id_, answer in answers.items():
            file.write(json.dumps({"id": id_, "text": answer.text, "ended": answer.ended}, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
