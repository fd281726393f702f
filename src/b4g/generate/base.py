"""The one interface of every generation engine: chats in, completions out, in the same order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from b4g.chat import Chat

Decided = Callable[[str], bool]
Progress = Callable[[int, int], None]
Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and how much there is."""


def progress_of(report: Report | None, what: str) -> Progress | None:
    """Return the progress of one piece of work within what is reported."""
    return None if report is None else lambda done, total: report(what, done, total)


@dataclass(frozen=True)
class Completion:
    """What a model answered."""

    text: str
    tokens: int | None
    """Tokens generated, the closing one included; None where the engine does not count them."""
    ended: bool
    """Whether the model closed its turn by itself."""
    decided: bool = False
    """Whether generation stopped because the judge needed no more."""
    failed: str = ""
    """Why there is no answer, empty where there is one. What failed was not said: no judge may score it."""


class Generator(Protocol):
    """An engine with a model in it."""

    identity: str
    """Hash of everything about the model and engine that can change an answer; batch size and device are not in it.

    An engine other than transformers puts its name and a dash before the hash (see `b4g.generate.engines.engine_of`).
    """
    renderer_hash: str
    """Hash of the renderer, or of the endpoint's name where the server renders."""

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one completion a chat, greedy; ``decided[i]`` may stop chat i early."""
        ...


def end_ids(closing: int, configured: int | Sequence[int] | None) -> set[int]:
    """Return the tokens that end an answer: the template's closing one and those of a generation configuration."""
    listed = configured if isinstance(configured, Sequence) else [configured]
    return {closing, *[token for token in listed if token is not None]}
