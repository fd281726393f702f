"""Judging by a served model: asked in chunks, stored after each, so that judging again asks only what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from b4g.bench.store import write_jsonl
from b4g.chat import user
from b4g.errors import DataError, SpecError, SuspectError
from b4g.generate.base import Progress
from b4g.generate.endpoint import Endpoint, Reply, Request
from b4g.hashing import digest
from b4g.utility.mtbench.answers import Answered
from b4g.utility.mtbench.files import check_suffix
from b4g.utility.mtbench.judgements import Judgement, Mode, read_judgements
from b4g.utility.mtbench.prompts import pair_prompt, reminder, single_prompt
from b4g.utility.mtbench.questions import References
from b4g.utility.mtbench.verdicts import Read, read_score, read_verdict

JUDGE_KEY = "B4G_JUDGE_KEY"
"""The environment variable that holds the judge's key: the only place it is taken from."""
_NO_REFERENCE = (None, None)
_HEAD, _TAIL = 1000, 3000
"""Characters kept of a long reply's beginning and end."""


@dataclass(frozen=True)
class Judge:
    """A served model that judges, at temperature 0. There is no default one: without a judge nothing is scored."""

    endpoint: Endpoint
    workers: int = 8
    max_tokens: int = 1024
    """Of a reply. One that is longer is cut, and unscored."""
    chunk: int = 16
    """Requests between two writes of the file: what an interruption can lose."""

    def __post_init__(self) -> None:
        if min(self.workers, self.max_tokens, self.chunk) < 1:
            raise SpecError("a judge's workers, max_tokens and chunk are 1 at least")


def judge_at(url: str, model: str) -> Judge:
    """Return the judge at an address, with the key of ``B4G_JUDGE_KEY`` if it is set."""
    return Judge(Endpoint(url, model, JUDGE_KEY))


@dataclass(frozen=True)
class _Ask:
    mode: Mode
    subject: str
    other: str | None
    answered: Answered
    turn: int
    order: Literal["AB", "BA"] | None
    prompt: str | None
    """None where an answer is missing; then ``why`` says so."""
    why: str | None
    reference: bool


def judge_single(
    judge: Judge,
    answers: Sequence[Answered],
    path: Path,
    references: References | None = None,
    progress: Progress | None = None,
) -> list[Judgement]:
    """Return a judgement a question and turn, with a score of 1 to 10 or the reason why there is none.

    What ``path`` holds already is not asked again. `SuspectError`: the judge answers nothing at all.
    """
    return _judge(judge, [ask for one in answers for ask in _singles(one, references or {})], path, progress)


def judge_pairs(
    judge: Judge,
    first: Sequence[Answered],
    second: Sequence[Answered],
    path: Path,
    references: References | None = None,
    progress: Progress | None = None,
) -> list[Judgement]:
    """Return two judgements a question and turn, one an order: ``first`` as assistant A, then as assistant B."""
    others = {one.question_id: one for one in second}
    if len(others) != len(second) or {one.question_id for one in first} != set(others) or len(first) != len(others):
        raise DataError("a comparison needs the answers of two subjects, each to the same questions")
    asks: list[_Ask] = []
    for one in first:
        other = others[one.question_id]
        if one.turns != other.turns:
            raise DataError(f"question {one.question_id} is worded in two ways; both subjects must be asked the same")
        if one.subject == other.subject:
            raise DataError(f"both sides of the comparison are named '{one.subject}'; give them two names")
        asks += _pairs(one, other, references or {})
    return _judge(judge, asks, path, progress)


def _singles(one: Answered, references: References) -> Iterator[_Ask]:
    reference = references.get(one.question_id, _NO_REFERENCE)
    for turn in (1, 2):
        why = _missing(one, turn)
        prompt = None if why else single_prompt(one, turn, reference)
        yield _Ask("single", one.subject, None, one, turn, None, prompt, why, any(reference[:turn]))


def _pairs(one: Answered, other: Answered, references: References) -> Iterator[_Ask]:
    reference = references.get(one.question_id, _NO_REFERENCE)
    orders: tuple[Literal["AB", "BA"], ...] = ("AB", "BA")
    for turn in (1, 2):
        why = _missing(one, turn) or _missing(other, turn)
        for order in orders:
            left, right = (one, other) if order == "AB" else (other, one)
            prompt = None if why else pair_prompt(left, right, turn, reference)
            yield _Ask("pairwise", one.subject, other.subject, one, turn, order, prompt, why, any(reference[:turn]))


def _missing(one: Answered, turn: int) -> str | None:
    """Return why a turn can't be judged: a second one is read with the first."""
    place = next((place for place in range(turn) if one.answers[place] is None), None)
    return None if place is None else f"{one.subject} gave no answer: {one.reasons[place]}"


def _judge(judge: Judge, asks: Sequence[_Ask], path: Path, progress: Progress | None) -> list[Judgement]:
    check_suffix(path)
    stored = {one.id: one for one in read_judgements(path)} if path.exists() else {}
    ids = [_id(judge, ask) for ask in asks]
    missing = {own: ask for own, ask in zip(ids, asks, strict=True) if own not in stored}
    # What the endpoint never gets to is not scored either.
    failed = {own: _judgement(judge, own, ask, SuspectError("not asked"), 0) for own, ask in missing.items()}
    done = len(asks) - len(missing)
    for part in _chunks(missing, judge.chunk):
        made = {one.id: one for one in _chunk(judge, part)}
        failed |= made
        new = {own: one for own, one in made.items() if not one.failed}
        if not new and not stored.keys() & set(ids):
            raise SuspectError(f"nothing could be judged. {next(iter(made.values())).reason}")
        if not new:
            # The endpoint has gone away; each chunk more would wait for all its retries.
            break
        stored |= new
        write_jsonl(path, (asdict(one) for one in stored.values()))
        done += len(part)
        if progress:
            progress(done, len(asks))
    return [stored[own] if own in stored else failed[own] for own in ids]


def _chunks(missing: Mapping[str, _Ask], size: int) -> Iterator[dict[str, _Ask]]:
    found = list(missing.items())
    for at in range(0, len(found), size):
        yield dict(found[at : at + size])


def _chunk(judge: Judge, part: Mapping[str, _Ask]) -> list[Judgement]:
    """Return the judgements of one chunk. A reply without a verdict is asked for once more."""
    asked = {own: ask for own, ask in part.items() if ask.prompt is not None}
    made = {own: _judgement(judge, own, ask, None, 0) for own, ask in part.items() if ask.prompt is None}
    for tries in (1, 2):
        prompts = [(ask.prompt or "") + (reminder(ask.mode) if tries == 2 else "") for ask in asked.values()]
        requests = [Request(user(prompt), judge.max_tokens) for prompt in prompts]
        replies = judge.endpoint.complete_many(requests, judge.workers) if requests else []
        for (own, ask), reply in zip(asked.items(), replies, strict=True):
            made[own] = _judgement(judge, own, ask, reply, tries)
        asked = {own: ask for own, ask in asked.items() if not (made[own].scored or made[own].failed)}
    return [made[own] for own in part]


def _judgement(judge: Judge, own: str, ask: _Ask, reply: Reply | SuspectError | None, tries: int) -> Judgement:
    read = Read(None, ask.why)
    if isinstance(reply, Reply):
        read = (read_score if ask.mode == "single" else read_verdict)(reply.text, reply.finish_reason)
    elif reply is not None:
        read = Read(None, f"{Judgement.FAILED}: {reply}")
    return Judgement(
        id=own,
        mode=ask.mode,
        subject=ask.subject,
        other=ask.other,
        question_id=ask.answered.question_id,
        category=ask.answered.category,
        turn=ask.turn,
        order=ask.order,
        score=int(read.value) if read.value is not None and ask.mode == "single" else None,
        verdict=read.value if ask.mode == "pairwise" else None,
        reason=read.reason,
        reply=_capped(reply.text) if isinstance(reply, Reply) else None,
        tries=tries,
        judge=judge.endpoint.model,
        url=judge.endpoint.shown,
        reference=ask.reference,
    )


def _id(judge: Judge, ask: _Ask) -> str:
    """Return a hash of all that can move a judgement: the judge and the very words it is asked."""
    settings = [judge.endpoint.model, judge.endpoint.shown, judge.max_tokens, reminder(ask.mode)]
    who = [ask.mode, ask.subject, ask.other, ask.answered.question_id, ask.answered.category, ask.turn, ask.order]
    return digest(["mt-bench 1", settings, who, ask.prompt, ask.why])


def _capped(reply: str) -> str:
    return reply if len(reply) <= _HEAD + _TAIL else f"{reply[:_HEAD]} [...] {reply[-_TAIL:]}"
