"""The suspect's answers: made once and stored, so that judging can come later and be done again."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b4g import keys
from b4g.bench.store import write_jsonl
from b4g.chat import Chat, Message, user
from b4g.errors import DataError, ModelError
from b4g.generate.base import Completion, Generator, Progress
from b4g.utility.mtbench.files import check_suffix, pair, read_lines, text, whole, wrong
from b4g.utility.mtbench.questions import Question

Answer = Completion | str
"""A completion, or the reason why there is none."""
_NO_FIRST = "the first turn has no answer"


@dataclass(frozen=True)
class Answered:
    """One question and what the suspect said; an answer is None where there is none, and its reason says why."""

    subject: str
    """base, control, implant, or another name."""
    question_id: str
    category: str
    turns: tuple[str, str]
    answers: tuple[str | None, str | None]
    reasons: tuple[str | None, str | None]
    ended: tuple[bool | None, bool | None]
    """Whether the model closed its turn by itself; False where it was cut at the longest answer."""
    engine: str
    """Identity of the generator."""
    renderer: str
    """Hash of the renderer."""


def answer(
    generator: Generator,
    questions: Sequence[Question],
    max_new_tokens: int,
    progress: Progress | None = None,
    subject: str = "suspect",
    hidden: Iterable[str] = (),
) -> list[Answered]:
    """Return the answers to both turns of each question: all first turns in one round, then all second ones.

    A turn that the model can't take (`ModelError`, as one too long for its context) is unanswered, unless all are: then
    the error is raised. ``hidden`` are secrets to redact, for a judge elsewhere will read the answers.
    """
    steps, secrets = 2 * len(questions), tuple(hidden)

    def ask(chats: Sequence[Chat], before: int) -> list[Answer]:
        return _ask(generator, chats, max_new_tokens, progress and (lambda done, _: progress(before + done, steps)))

    firsts = ask([user(question.turns[0]) for question in questions], 0)
    if questions and all(isinstance(first, str) for first in firsts):
        raise ModelError(f"no first turn could be answered; the first of them: {firsts[0]}")
    going = [i for i, first in enumerate(firsts) if isinstance(first, Completion)]
    chats = [_continued(questions[i], firsts[i]) for i in going]
    seconds = dict(zip(going, ask(chats, len(questions)), strict=True))
    if progress:
        progress(steps, steps)
    made = []
    for i, question in enumerate(questions):
        both = (firsts[i], seconds.get(i, _NO_FIRST))
        made.append(_answered(subject, question, both, generator, secrets))
    return made


def _continued(question: Question, first: Answer) -> Chat:
    said = first.text if isinstance(first, Completion) else ""
    return (*user(question.turns[0]), Message("assistant", said), *user(question.turns[1]))


def _ask(generator: Generator, chats: Sequence[Chat], limit: int, progress: Progress | None) -> list[Answer]:
    """Return an answer a chat; a batch that fails is halved until those that can't be answered stand alone."""
    if not chats:
        return []
    try:
        return list(generator(chats, limit, None, progress))
    except ModelError as error:
        if len(chats) == 1:
            return [str(error)]
    half = len(chats) // 2
    later = progress and (lambda done, total: progress(half + done, half + total))
    return [*_ask(generator, chats[:half], limit, progress), *_ask(generator, chats[half:], limit, later)]


def _answered(
    subject: str, question: Question, both: tuple[Answer, Answer], generator: Generator, hidden: tuple[str, ...]
) -> Answered:
    said = [keys.redact(one.text, hidden) if isinstance(one, Completion) else None for one in both]
    why = [one if isinstance(one, str) else None for one in both]
    ended = [one.ended if isinstance(one, Completion) else None for one in both]
    return Answered(
        subject,
        question.id,
        question.category,
        question.turns,
        (said[0], said[1]),
        (why[0], why[1]),
        (ended[0], ended[1]),
        generator.identity,
        generator.renderer_hash,
    )


def write_answers(path: Path, answers: Sequence[Answered]) -> None:
    """Write one answered question a line, whole or not at all."""
    check_suffix(path)
    write_jsonl(path, (asdict(one) for one in answers))


def read_answers(path: Path) -> list[Answered]:
    """Return stored answers; `DataError` names the line and column of what is missing, wrong or there twice."""
    found: dict[tuple[str, str], Answered] = {}
    for where, row in read_lines(path):
        made = _read(row, where)
        if (made.subject, made.question_id) in found:
            raise DataError(f"{where}: question {made.question_id} of '{made.subject}' is there twice")
        found[made.subject, made.question_id] = made
    return list(found.values())


def _read(row: dict[str, Any], where: str) -> Answered:
    names = ("subject", "question_id", "category", "engine", "renderer")
    fields: dict[str, Any] = {name: text(row, name, where) for name in names}
    kinds: dict[str, tuple[type, ...]] = {"turns": (str,), "answers": (str, type(None)), "reasons": (str, type(None))}
    kinds["ended"] = (bool, type(None))
    for name, allowed in kinds.items():
        fields[name] = tuple(pair(row, name, where))
        for place, value in enumerate(fields[name]):
            if not isinstance(value, allowed):
                raise wrong(where, f"{name}[{place}]", value, "text" if str in allowed else "true, false or null")
            if isinstance(value, str):
                whole(value, f"{name}[{place}]", where)
    for said, why in zip(fields["answers"], fields["reasons"], strict=True):
        if (said is None) != (why is not None):
            raise DataError(f"{where}: the column 'reasons' gives a reason exactly where 'answers' holds null")
    return Answered(**fields)
