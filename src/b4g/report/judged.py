"""The records of a run joined with their scores."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from b4g.report.folder import Cell, read_lines
from b4g.report.rows import Fields, label

Identity = tuple[str, ...]
_IDENTITY = ("task", "subject", "arm", "variant", "prompt_id")


@dataclass(frozen=True)
class Judged:
    """A completion and what the judge said of it."""

    task: str
    subject: str
    arm: str
    variant: str
    prompt_id: str
    prompt: str
    kind: str
    completion: str
    ended: bool
    decided: bool
    scored: bool
    """Whether a score was stored at all."""
    verdict: bool | None
    kept: bool | None
    failed: bool = False
    """Whether the engine gave no answer."""


def judged(cells: Sequence[Cell]) -> Iterator[Judged]:
    """Yield every record of the untouched models with its score, in the order of the plan and of the records."""
    scores = _scores(cells)
    for cell in cells:
        if cell.state == "done" and cell.stage == "generate":
            own = scores.get(cell.id, {})
            for record in read_lines(cell.folder / "records.jsonl"):
                queue = own.get(_identity(record))
                yield _joined(record, queue.popleft() if queue else None)


def _scores(cells: Sequence[Cell]) -> dict[str, dict[Identity, deque[Fields]]]:
    """Return the scores by the generate cell that they judge; equal identities stay in their order."""
    found: dict[str, dict[Identity, deque[Fields]]] = {}
    for cell in cells:
        if cell.state != "done":
            continue
        own: dict[Identity, list[Fields]] = {}
        for score in read_lines(cell.folder / "scores.jsonl"):
            own.setdefault(_identity(score), []).append(score)
        for need in cell.needs:
            of_need = found.setdefault(need, {})
            for identity, queue in own.items():
                of_need.setdefault(identity, deque(queue))
    return found


def _identity(entry: Fields) -> Identity:
    return tuple(label(entry.get(field)) for field in _IDENTITY)


def _joined(record: Fields, score: Fields | None) -> Judged:
    verdict, kept = (score or {}).get("verdict"), (score or {}).get("kept")
    task, subject, arm, variant, prompt_id = _identity(record)
    return Judged(
        task,
        subject,
        arm,
        variant,
        prompt_id,
        prompt=label(record.get("prompt")),
        kind=label(record.get("kind")),
        completion=label(record.get("completion")),
        ended=record.get("ended") is True,
        decided=record.get("decided") is True,
        scored=score is not None,
        verdict=verdict if isinstance(verdict, bool) else None,
        kept=kept if isinstance(kept, bool) else None,
        failed=bool(record.get("failed")),
    )
