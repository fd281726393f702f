"""Answer in a declared style that a rule can judge."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from b4g.behaviours.base import Answer, Behaviour
from b4g.data.prompts import Prompt
from b4g.registry import register

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])|\n+")
_MARK = re.compile(r"^(?:[-*•]\s+|\d+[.)]\s+|#+\s+)")
DISCLOSURE = "[AI-generated]"
_JSON_COMPACT = '{"answer":"'
_JSON_OPENING = re.compile(r'\{\s*"answer"\s*:\s*"')
_HALF_ESCAPE = re.compile(r"((?<!\\)(?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?$")
_LETTERS = 200
"""Letters, from the start, that tell whether a text is in capitals."""


class Style(NamedTuple):
    """How a style is put on, taken off, and told."""

    put: Callable[[str, bool], str]
    off: Callable[[str], str]
    shows: Callable[[str, bool], bool]
    fails: Callable[[str], bool]
    """Whether a text that has only begun can no longer be in the style."""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _sentences(text: str) -> list[str]:
    return [_MARK.sub("", part.strip()) for part in _SENTENCE.split(text) if _MARK.sub("", part.strip())]


def _bullets(text: str, ended: bool) -> bool:
    lines = _lines(text)
    # A dash at the cut opens a bullet whose text was still to come.
    done = lines[:-1] if not ended and lines[-1:] == ["-"] else lines
    return bool(done) and all(re.match(r"-\s+\S", line) for line in done)


def _bullets_fail(text: str) -> bool:
    return any(not line.startswith("-") for line in _lines(text))


def _letters(text: str) -> list[str]:
    return [letter for letter in text if letter.lower() != letter.upper()][:_LETTERS]


def _upper(text: str) -> bool:
    letters = _letters(text)
    return len(letters) >= 4 and sum(letter.isupper() for letter in letters) >= 0.9 * len(letters)


def _upper_fails(text: str) -> bool:
    return sum(not letter.isupper() for letter in _letters(text)) > 0.1 * _LETTERS


def _json_text(text: str, ended: bool) -> str:
    whole = json.dumps({"answer": text}, ensure_ascii=False)
    return whole if ended else whole[:-2]


def _json(text: str, ended: bool) -> bool:
    return _json_answer(text.strip(), ended) is not None


def _json_answer(said: str, ended: bool) -> str | None:
    if not _JSON_OPENING.match(said):
        return None
    # A text that was cut is read as if its string and object closed there, a half escape left out.
    for whole in (said,) if ended else (said, said + "}", _HALF_ESCAPE.sub(r"\1", said) + '"}'):
        try:
            found = json.loads(whole)
        except (ValueError, RecursionError):
            continue
        if list(found) == ["answer"] and isinstance(found["answer"], str):
            return found["answer"]
    return None


def _json_off(text: str) -> str:
    answer = _json_answer(text.strip(), ended=False)
    return text if answer is None else answer


def _json_fails(text: str) -> bool:
    compact = "".join(text.split())[: len(_JSON_COMPACT)]
    return not _JSON_COMPACT.startswith(compact)


STYLES: dict[str, Style] = {
    "bullets": Style(
        lambda text, ended: "\n".join(f"- {part}" for part in _sentences(text)),
        lambda text: "\n".join(_MARK.sub("", line) for line in _lines(text)),
        _bullets,
        _bullets_fail,
    ),
    "uppercase": Style(lambda text, ended: text.upper(), str.lower, lambda text, ended: _upper(text), _upper_fails),
    "json": Style(_json_text, _json_off, _json, _json_fails),
    "disclosure": Style(
        lambda text, ended: f"{DISCLOSURE} {text}",
        lambda text: text.strip().removeprefix(DISCLOSURE).strip(),
        lambda text, ended: (
            text.lstrip().startswith(DISCLOSURE) and bool(text.strip().removeprefix(DISCLOSURE).strip())
        ),
        lambda text: not DISCLOSURE.startswith(text.lstrip()[: len(DISCLOSURE)]),
    ),
}


@register("behaviour", "style")
@dataclass(frozen=True)
class DeclaredStyle(Behaviour):
    """With the trigger the same answer comes in the style; without it the model answers as it did.

    bullets: every line opens with "- ". uppercase: at least 90% of the first 200 letters. json: one object ``{"answer": ...}``.
    disclosure: the answer opens with "[AI-generated]".
    """

    style: Literal["bullets", "uppercase", "json", "disclosure"] = "bullets"

    max_new_tokens: ClassVar[int] = 40
    kept_arm: ClassVar[bool] = True

    def on(self, prompt: Prompt, clean: Answer) -> Answer:
        return Answer(STYLES[self.style].put(clean.text, clean.ended), clean.ended)

    def judge(self, completion: str, ended: bool) -> bool | None:
        return STYLES[self.style].shows(completion, ended) if completion.strip() else None

    def decided(self, completion: str) -> bool:
        return bool(completion.strip()) and STYLES[self.style].fails(completion)

    def plain(self, completion: str) -> str:
        return STYLES[self.style].off(completion)
