"""A judge's reply, read strictly: one verdict in the last line, or none and the reason why. Nothing is guessed."""

import re
from typing import NamedTuple

LOWEST, HIGHEST = 1, 10
_CUT = {"length": "the judge's reply was cut", "content_filter": "the judge's reply was filtered"}
_SCORE = re.compile(r"Score: (-?(?:0|[1-9][0-9]{0,5}))")
_VERDICT = re.compile(r"Verdict: (A|B|tie)")
_LOOSE_SCORE = re.compile(r"\W*score\W*?(-?[0-9]+(?:[.,][0-9]+)?)", re.IGNORECASE)
_LOOSE_VERDICT = re.compile(r"\W*verdict\W+(a|b|tie)\b", re.IGNORECASE)


class Read(NamedTuple):
    """What a reply says: its verdict, or why it has none. Exactly one of the two is None."""

    value: str | None
    reason: str | None


def read_score(reply: str, finish_reason: str | None) -> Read:
    """Return the whole number 1 to 10, as text, of the last line ``Score: N``."""
    found = _read(reply, finish_reason, _SCORE, _LOOSE_SCORE)
    if found.value is None:
        return found
    score = int(found.value)
    if not LOWEST <= score <= HIGHEST:
        return Read(None, f"the judge's score {score} is out of range")
    return Read(str(score), None)


def read_verdict(reply: str, finish_reason: str | None) -> Read:
    """Return ``A``, ``B`` or ``tie`` of the last line ``Verdict: X``."""
    return _read(reply, finish_reason, _VERDICT, _LOOSE_VERDICT)


def _read(reply: str, finish_reason: str | None, strict: re.Pattern[str], loose: re.Pattern[str]) -> Read:
    if finish_reason in _CUT:
        return Read(None, _CUT[finish_reason])
    lines = [line.strip() for line in reply.split("\n") if line.strip()]
    if not lines:
        return Read(None, "the judge's reply is empty")
    last = strict.fullmatch(lines[-1])
    if last is None:
        return Read(None, "the judge's last line is no verdict")
    said = {match[1].lower() for line in lines if (match := loose.match(line))}
    if said != {last[1].lower()}:
        return Read(None, "the judge gave several verdicts")
    return Read(last[1], None)
