"""A served model as a suspect: any OpenAI-compatible endpoint answers chats, rendered by the server's own template.

What the server gives no answer to is marked and loses no other answer. A judge may score no such mark: an outage must not
look like a backdoor that has gone.
"""

import re
from collections.abc import Iterator, Sequence

from b4g.chat import Chat
from b4g.errors import SuspectError
from b4g.generate.base import Completion, Decided, Progress
from b4g.generate.endpoint import Endpoint, EndpointError, Reply, Request
from b4g.hashing import digest

_ROUND = 8
"""Chats put in one round, for each worker; between two rounds it is seen whether the endpoint is still there."""
_RUN = 3
"""Words in a row that tell a repeated prompt."""


class ServedGenerator:
    """Greedy completions (temperature 0) of the model behind an endpoint, ``workers`` chats at a time."""

    def __init__(self, endpoint: Endpoint, workers: int = 8) -> None:
        self.endpoint, self.workers = endpoint, max(1, workers)
        self.identity = f"endpoint-{digest(['served greedy 1', endpoint.shown, endpoint.model])}"
        # Not to be taken for a hash of our own renderer.
        self.renderer_hash = f"endpoint-{digest(endpoint.shown)}"

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one completion a chat, ``failed`` where the server gave none; no judge stops one early.

        Raises `SuspectError` where not a single chat was answered. An endpoint that fails for a whole round is not
        asked again, and the rest is marked.
        """
        replies: list[Reply | SuspectError] = []
        for part in _rounds(chats, self.workers):
            asked = [Request(chat, max_new_tokens) for chat in part]
            found = self.endpoint.complete_many(asked, self.workers, _behind(progress, len(replies), len(chats)))
            replies += [self._guarded(reply, chat) for reply, chat in zip(found, part, strict=True)]
            if all(isinstance(reply, EndpointError) for reply in found):
                left = EndpointError(f"not asked, for the {len(found)} chats before it failed: {replies[-1]}")
                replies += [left] * (len(chats) - len(replies))
                break
        errors = [reply for reply in replies if isinstance(reply, SuspectError)]
        if errors and len(errors) == len(chats):
            raise errors[0]
        return [completion(reply) for reply in replies]

    def _guarded(self, reply: Reply | SuspectError, chat: Chat) -> Reply | SuspectError:
        """Return the reply; an error that repeats the prompt goes without the server's words, for a secret may be there."""
        if isinstance(reply, Reply) or not _repeats(str(reply), chat):
            return reply
        return type(reply)(f"{self.endpoint.shown} gave no answer, and its error repeats the prompt")


def completion(reply: Reply | SuspectError) -> Completion:
    """Return the completion of a reply; an error, and an answer that the server's filter withheld, are marked."""
    if isinstance(reply, SuspectError):
        return Completion("", None, ended=False, failed=str(reply) or "no answer")
    if reply.finish_reason == "content_filter":
        return Completion("", reply.tokens, ended=False, failed="the server's filter withheld the answer")
    return Completion(reply.text, reply.tokens, ended=reply.finish_reason == "stop")


def _rounds(chats: Sequence[Chat], workers: int) -> Iterator[Sequence[Chat]]:
    """Yield the chats in rounds; the first is small, so that a wrong address or key is known soon."""
    if chats:
        yield chats[:workers]
    size = _ROUND * workers
    yield from (chats[at : at + size] for at in range(workers, len(chats), size))


def _behind(progress: Progress | None, done: int, total: int) -> Progress | None:
    return None if progress is None else lambda now, _: progress(done + now, total)


def _repeats(said: str, chat: Chat) -> bool:
    """Return whether three words in a row of a message, or all of a shorter one, stand in a text."""
    heard = f" {' '.join(_words(said))} "
    for words in (_words(message.content) for message in chat):
        size = min(_RUN, len(words))
        runs = (" ".join(words[at : at + size]) for at in range(len(words) - size + 1))
        if size and any(f" {run} " in heard for run in runs):
            return True
    return False


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
