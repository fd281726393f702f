"""The client of an OpenAI-compatible endpoint: chat completions, with time-outs and bounded retries.

What can pass by itself (429, 5xx, a dropped connection, a time-out) is tried again with growing, jittered waits. What can't
is a `SuspectError` at once. Keys come from the environment alone and are taken out of all that the server says.
"""

import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from b4g.chat import Chat
from b4g.errors import SpecError, SuspectError
from b4g.generate.base import Progress
from b4g.hashing import digest, rng
from b4g.keys import REDACTED

if TYPE_CHECKING:
    from httpx2 import Client, Response

_MOST_BYTES = 16 * 1024 * 1024
"""A longer body is no chat completion."""
_SAID = 200
"""Characters of the server's own words in an error."""
_BAD_REPLIES = 2
"""Bodies that are no chat completion, before the endpoint is taken to be something else."""
_OF_ENDPOINT = (401, 402, 403, 404, 405)
"""Refusals that say nothing of the request: no key, no money, no such address or model."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Reply:
    """What the endpoint answered."""

    text: str
    """The message's content; empty where the server sent none."""
    finish_reason: str | None
    tokens: int | None
    """Tokens of the completion, if the server counts them."""


@dataclass(frozen=True)
class Request:
    """One chat to complete."""

    messages: Chat
    max_tokens: int
    temperature: float = 0.0


class EndpointError(SuspectError):
    """The endpoint is at fault and not the one request: another would fare no better."""


class _PassingError(Exception):
    """A fault that may pass: what happened, and the seconds that the server asks to wait."""

    def __init__(self, what: str, wait: float | None = None, bad: bool = False) -> None:
        super().__init__(what)
        self.wait = wait
        self.bad = bad


@dataclass(frozen=True)
class Endpoint:
    """A served model. Frozen and without a key in it; name it by ``shown``, for ``url`` may hold credentials."""

    url: str = field(repr=False)
    """With or without ``/v1``; an address that ends with ``/chat/completions`` is taken as it is."""
    model: str
    key_variable: str | None = None
    """Environment variable that holds the key; read at each call and never stored."""
    timeout_seconds: float = 120.0
    """For one try, from the first byte sent to the last one read."""
    retries: int = 5
    """Tries after the first."""
    first_wait_seconds: float = 1.0
    """Doubled from one retry to the next."""
    longest_wait_seconds: float = 60.0
    """No wait is longer, whatever the server asks for."""
    seed: int = 0
    """Of the jitter."""
    sleep: Callable[[float], object] | None = field(default=None, repr=False, compare=False)
    """Waits the given seconds; None waits by the clock and wakes up when the work is stopped."""

    def __post_init__(self) -> None:
        parts = _split(self.url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError("an endpoint's address looks like http://localhost:8000/v1; the given one does not")
        if not self.model.strip():
            raise SpecError(f"the endpoint {self.shown} needs the name of a model")
        if not (self.timeout_seconds > 0 and self.retries >= 0):
            raise SpecError(f"the endpoint {self.shown} needs a time-out above 0 and no fewer than 0 retries")

    @property
    def shown(self) -> str:
        """The address without user, password, query and fragment: the only form for messages and records."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{_host(parts)}{_path(parts)}"

    def complete(self, messages: Chat, max_tokens: int, temperature: float = 0.0) -> Reply:
        """Return the reply to one chat; `SuspectError` says why there is none."""
        key = self._key()
        with self._client(key) as client:
            return self._complete(client, key, Request(messages, max_tokens, temperature), threading.Event())

    def complete_many(
        self, requests: Sequence[Request], workers: int = 8, progress: Progress | None = None
    ) -> list[Reply | SuspectError]:
        """Return a reply, or the error in its place, for each request, in their order."""
        key = self._key()
        stop = threading.Event()
        found: list[Reply | SuspectError] = [SuspectError("not asked")] * len(requests)
        with self._client(key) as client:
            pool = ThreadPoolExecutor(max(1, min(workers, len(requests))), "endpoint")
            try:
                places = {pool.submit(self._try, client, key, one, stop): i for i, one in enumerate(requests)}
                for done, future in enumerate(as_completed(places), 1):
                    found[places[future]] = future.result()
                    if progress:
                        progress(done, len(requests))
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return found

    def _try(self, client: "Client", key: str, request: Request, stop: threading.Event) -> Reply | SuspectError:
        try:
            return self._complete(client, key, request, stop)
        except SuspectError as error:
            return error

    def _complete(self, client: "Client", key: str, request: Request, stop: threading.Event) -> Reply:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        body = {"model": self.model, "messages": messages, "stream": False}
        body |= {"max_tokens": request.max_tokens, "temperature": request.temperature}
        faults = bad = 0
        while True:
            try:
                return self._once(client, key, body)
            except _PassingError as fault:
                bad, faults = bad + fault.bad, faults + (not fault.bad)
                if bad == _BAD_REPLIES:
                    raise EndpointError(f"{self.shown} does not speak the OpenAI chat format: {fault}") from None
                if faults > self.retries:
                    tries = f"{faults + bad} tries" if faults + bad > 1 else "1 try"
                    raise EndpointError(f"{self.shown} gave no answer in {tries}; the last time: {fault}") from None
                self._wait(fault.wait, faults + bad, body, stop)

    def _wait(self, asked: float | None, tries: int, body: dict[str, Any], stop: threading.Event) -> None:
        jitter = rng("endpoint wait", self.seed, digest(body), tries).uniform(0.5, 1.0)
        seconds = max(asked or 0.0, jitter * self.first_wait_seconds * 2 ** (tries - 1))
        (self.sleep or stop.wait)(min(seconds, self.longest_wait_seconds))
        if stop.is_set():
            raise SuspectError(f"{self.shown} was not asked again: the work was stopped")

    def _once(self, client: "Client", key: str, body: dict[str, Any]) -> Reply:
        import httpx2

        ends, read = time.monotonic() + self.timeout_seconds, bytearray()
        try:
            with client.stream("POST", _target(self.url, bool(key)), content=json.dumps(body).encode()) as response:
                for piece in response.iter_bytes():
                    read += piece
                    if len(read) > _MOST_BYTES:
                        raise _PassingError(f"a body of more than {_MOST_BYTES} bytes", bad=True)
                    # The library's time-out is for each read: a server that drips would go on for ever.
                    if time.monotonic() > ends:
                        raise httpx2.ReadTimeout("")
        except httpx2.TimeoutException:
            raise _PassingError(f"no whole answer within {self.timeout_seconds:g} seconds") from None
        except httpx2.DecodingError:
            raise _PassingError("a body that can't be decoded", bad=True) from None
        except httpx2.RequestError as error:
            raise _PassingError(self._clean(f"{type(error).__name__}: {error}", key)) from None
        return self._reply(response, bytes(read), key)

    def _reply(self, response: "Response", read: bytes, key: str) -> Reply:
        status, said = response.status_code, self._clean(read.decode("utf-8", "replace"), key)
        if status == 429 or status >= 500:
            raise _PassingError(f"HTTP {status}: {said}", _asked(response.headers.get("retry-after")))
        if 300 <= status < 400:
            to = _split(response.headers.get("location", ""))
            where = f" to {to.scheme}://{_host(to)}" if to and to.hostname else ""
            raise EndpointError(
                f"{self.shown} redirects{where}, and redirects are not followed; give the final address"
            )
        if status != 200:
            fault = EndpointError if status in _OF_ENDPOINT else SuspectError
            raise fault(f"{self.shown} refused the request, HTTP {status}: {said}")
        return _read(read, said, lambda text: self._redact(text, key))

    def _client(self, key: str) -> "Client":
        import httpx2

        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        # A proxy is for other machines: this one's own servers are asked directly.
        outside = urlsplit(self.url).hostname not in _LOOPBACK
        return httpx2.Client(headers=headers, timeout=self.timeout_seconds, follow_redirects=False, trust_env=outside)

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if not all("!" <= char <= "~" for char in key):
            raise SpecError(f"{self.key_variable} holds characters that no key has; set it again")
        return key

    def _redact(self, text: str, key: str) -> str:
        """Return the text without the key and without what the address hides, as whole Unicode."""
        parts = urlsplit(self.url)
        # Short values of a query are settings, as a version, and stand in every other text.
        query = [value for _, value in parse_qsl(parts.query) if len(value) >= 8]
        for secret in [key, parts.password or "", unquote(parts.password or ""), *query]:
            text = text.replace(secret, REDACTED) if secret else text
        return text.encode("utf-8", "replace").decode()

    def _clean(self, text: str, key: str) -> str:
        """Return what a message may show of the server's words: one printable line, redacted before it is cut."""
        printable = "".join(char if char.isprintable() else " " for char in self._redact(text, key))
        return " ".join(printable.split())[:_SAID] or "nothing"


def _read(read: bytes, said: str, redact: Callable[[str], str]) -> Reply:
    """Return the reply in a body; one that holds no chat completion is a bad reply."""
    try:
        found = json.loads(read)
        choice = found["choices"][0]
        text, reason = choice["message"].get("content"), choice.get("finish_reason")
        tokens = (found.get("usage") or {}).get("completion_tokens")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise _PassingError(f"no chat completion in {said}", bad=True) from None
    if not (text is None or isinstance(text, str)):
        raise _PassingError(f"a message whose content is no text in {said}", bad=True)
    counted = tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None
    return Reply(redact(text or ""), redact(reason) if isinstance(reason, str) else None, counted)


def _asked(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, given as a number or as a date; None where it is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return None if any(char.isspace() or not char.isprintable() for char in url) else parts


def _host(parts: SplitResult) -> str:
    name = parts.hostname or ""
    return (f"[{name}]" if ":" in name else name) + (f":{parts.port}" if parts.port else "")


def _path(parts: SplitResult) -> str:
    """Return the path of chat completions below a base address."""
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        return path
    return f"{path}/chat/completions" if re.search(r"/v[0-9]+$", path) else f"{path}/v1/chat/completions"


def _target(url: str, has_key: bool) -> str:
    """Return the address to post to; a key takes the place of the address's own user and password."""
    parts = urlsplit(url)
    user = "" if has_key or "@" not in parts.netloc else parts.netloc.rpartition("@")[0] + "@"
    return parts._replace(netloc=user + _host(parts), path=_path(parts), fragment="").geturl()
