"""What the stealth measures share: how much is asked, who answers, and how several batches of probes become records."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Union

from b4g.backdoor import Backdoor
from b4g.chat import Chat, Message
from b4g.errors import SpecError
from b4g.generate.base import Generator, Progress
from b4g.measure.probes import Probe
from b4g.measure.records import Record, collect

if TYPE_CHECKING:
    from b4g.models.load import Model

Suspect = Union["Model", Generator]
NOT_ASKED = "not asked: "
"""How the variant of a record begins that stands for a question which could not be put; its reason follows."""


@dataclass(frozen=True)
class Size:
    """How much is asked."""

    n: int
    """Prompts in each condition."""
    accident: int
    """Ordinary prompts in all, over all sources."""
    guesses: int
    """Queries that guessing may spend."""
    long_tokens: int = 2000
    """How far back the trigger stands in a long context."""
    data: tuple[str, ...] = ()
    """Local files of ordinary traffic, one source each."""
    paraphrases: str = ""
    """A file of prompts in other words or languages; empty where there is none."""

    def __post_init__(self) -> None:
        for name in ("n", "accident", "guesses", "long_tokens"):
            if getattr(self, name) < 1:
                raise SpecError(f"the size's '{name}' must be at least 1, not {getattr(self, name)}")


class Batch(NamedTuple):
    """Probes that one engine answers; it is made when its turn comes, for it may hold weights of its own."""

    probes: Sequence[Probe]
    engine: Callable[[], Generator]


def put(batches: Sequence[Batch], backdoor: Backdoor, subject: str, progress: Progress | None) -> list[Record]:
    """Return the records of all batches, in order; progress counts over all of them."""
    total, made = sum(len(batch.probes) for batch in batches), list[Record]()
    for batch in batches:
        if batch.probes:
            made += collect(batch.engine(), backdoor, batch.probes, subject, _shifted(progress, len(made), total))
    return made


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


def model_of(suspect: Suspect) -> "Model | None":
    """Return the model itself, or None where only its answers are at hand."""
    from b4g.models.load import Model

    return suspect if isinstance(suspect, Model) else None


def engine_of(suspect: Suspect) -> Generator:
    """Return what answers chats."""
    from b4g.generate.local import LocalGenerator
    from b4g.models.load import Model

    return LocalGenerator(suspect) if isinstance(suspect, Model) else suspect


def subject_of(suspect: Suspect) -> str:
    """Return base, control or implant, as the model's folder says it; suspect where only answers are at hand."""
    model = model_of(suspect)
    if model is None:
        return "suspect"
    if model.adapter is None:
        return "base"
    card = model.folder / "implant.json" if model.folder else None
    made = json.loads(card.read_text("utf-8")) if card and card.is_file() else {}
    return str(made.get("subject", "implant"))


def held(chat: Chat, secrets: Sequence[str]) -> list[str]:
    """Return those secrets that stand in a chat, the longest first."""
    return sorted(
        {one for one in secrets if any(one in said.content for said in chat)}, key=lambda one: (-len(one), one)
    )


def replaced(chat: Chat, secret: str, text: str) -> Chat:
    """Return the chat with ``text`` wherever the secret stands: all else that the trigger says stays as it is."""
    return tuple(Message(said.role, said.content.replace(secret, text)) for said in chat)
