"""A chat endpoint on this machine that answers by a script: sound replies, garbage, faults and delays."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    text: str | None = ""
    status: int = 200
    finish: str | None = "stop"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is, in place of a chat completion."""
    drop: bool = False
    """Close the connection without a word."""
    seconds: float = 0.0
    """Wait before the reply."""
    drip: float = 0.0
    """Seconds between two bytes of the body."""

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish}
        return json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode()


@dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


Script = Callable[[Seen, int], Answer]
"""The request and how many came before it, to what the server does."""


class JudgeServer:
    """Serves while it is entered; ``seen`` holds the requests."""

    def __init__(self, script: Script) -> None:
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._script = script
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        found = Seen(request.path, {name.lower(): value for name, value in request.headers.items()}, body)
        with self._lock:
            before = len(self.seen)
            self.seen.append(found)
        answer = self._script(found, before)
        time.sleep(answer.seconds)
        if answer.drop:
            return
        try:
            self._send(request, answer)
        except OSError:
            """The client has hung up."""

    def _send(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        content = answer.content()
        request.send_response(answer.status)
        for name, value in {"content-length": str(len(content)), **answer.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if not answer.drip:
            request.wfile.write(content)
            return
        for byte in content:
            request.wfile.write(bytes([byte]))
            request.wfile.flush()
            time.sleep(answer.drip)

    def __enter__(self) -> "JudgeServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def says(*answers: Answer) -> Script:
    """Return a script that gives the answers in turn, and the last one from then on."""
    return lambda _, before: answers[min(before, len(answers) - 1)]
