"""The client against a server on this machine: what passes is tried again, what does not is told, no key is shown."""

import dataclasses
import socket
import time
from typing import Any

import pytest
from judge_server import Answer, JudgeServer, Seen, says

from b4g.chat import Message, user
from b4g.errors import SpecError, SuspectError
from b4g.generate.endpoint import Endpoint, Reply, Request

KEY = "sk-quexmire-4711"
FINE = Answer("fine")


def ask(server: JudgeServer, waits: list[float] | None = None, **changes: Any) -> Reply:
    return _endpoint(server, waits, **changes).complete(user("hello"), 8)


def _endpoint(server: JudgeServer, waits: list[float] | None = None, **changes: Any) -> Endpoint:
    seen = waits if waits is not None else []
    return Endpoint(**({"url": server.url, "model": "judge", "sleep": seen.append} | changes))


def test_a_chat_is_sent_whole_and_its_reply_comes_back() -> None:
    chat = (*user("one", "be brief"), Message("assistant", "two"), *user("three"))
    with JudgeServer(says(FINE)) as server:
        reply = _endpoint(server).complete(chat, 9, 0.0)
    assert reply == Reply("fine", "stop", 5)
    assert [message["role"] for message in server.seen[0].body["messages"]] == ["system", "user", "assistant", "user"]
    assert server.seen[0].body["messages"][3]["content"] == "three"
    assert {name: server.seen[0].body[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "judge",
        "max_tokens": 9,
        "temperature": 0.0,
    }


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1/chat/completions/"])
def test_an_address_works_with_or_without_its_last_parts(tail: str) -> None:
    with JudgeServer(says(FINE)) as server:
        assert ask(server, url=server.url + tail).text == "fine"
    assert server.seen[0].path == "/v1/chat/completions"


def test_another_version_and_a_query_of_the_address_are_kept() -> None:
    with JudgeServer(says(FINE)) as server:
        ask(server, url=f"{server.url}/api/v3?api-version=2")
    assert server.seen[0].path == "/api/v3/chat/completions?api-version=2"


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://host:port", "http://a b"])
def test_an_address_that_can_not_be_asked_is_refused_at_once(url: str) -> None:
    with pytest.raises(SpecError, match="http://localhost:8000/v1"):
        Endpoint(url, "judge")


def test_a_server_error_and_a_dropped_connection_are_tried_again_with_growing_waits() -> None:
    waits: list[float] = []
    with JudgeServer(says(Answer(status=500), Answer(drop=True), Answer(status=503), FINE)) as server:
        assert ask(server, waits).text == "fine"
    assert len(server.seen) == 4
    assert [low <= wait <= 2 * low for wait, low in zip(waits, (0.5, 1.0, 2.0), strict=True)] == [True] * 3


def test_the_jitter_depends_on_the_seed_alone() -> None:
    runs: list[list[float]] = []
    for seed in (1, 1, 2):
        waits: list[float] = []
        with JudgeServer(says(Answer(status=500), FINE)) as server:
            ask(server, waits, seed=seed)
        runs.append(waits)
    assert runs[0] == runs[1] != runs[2]


def test_retries_are_bounded_and_the_last_fault_is_told() -> None:
    waits: list[float] = []
    with JudgeServer(says(Answer(status=502, body=b"bad gateway"))) as server, pytest.raises(SuspectError) as caught:
        ask(server, waits, retries=2)
    assert (len(server.seen), len(waits)) == (3, 2)
    assert "3 tries" in str(caught.value)
    assert "HTTP 502: bad gateway" in str(caught.value)


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("900", 30.0), ("Wed, 21 Oct 2099 07:28:00 GMT", 30.0)])
def test_the_wait_that_a_busy_server_asks_for_is_kept_up_to_a_cap(asked: str, waited: float) -> None:
    waits: list[float] = []
    with JudgeServer(says(Answer(status=429, headers={"Retry-After": asked}), FINE)) as server:
        assert ask(server, waits, longest_wait_seconds=30).text == "fine"
    assert waits == [waited]


@pytest.mark.parametrize("asked", ["soon", "nan", "-5", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_wait_that_makes_no_sense_is_replaced_by_our_own(asked: str) -> None:
    waits: list[float] = []
    with JudgeServer(says(Answer(status=429, headers={"Retry-After": asked}), FINE)) as server:
        ask(server, waits)
    assert 0.5 <= waits[0] <= 1.0


@pytest.mark.parametrize("slow", [Answer("late", seconds=1.0), Answer("late", drip=0.05)])
def test_a_server_that_is_silent_or_drips_is_timed_out_and_asked_again(slow: Answer) -> None:
    began = time.monotonic()
    with JudgeServer(says(slow, FINE)) as server:
        assert ask(server, timeout_seconds=0.2).text == "fine"
        assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_the_server_refuses_is_not_asked_again(status: int) -> None:
    refusal = Answer(status=status, body=b"no such model \x1b[31m" + b"x" * 900)
    with JudgeServer(says(refusal)) as server, pytest.raises(SuspectError) as caught:
        ask(server)
    assert len(server.seen) == 1
    assert f"HTTP {status}: no such model" in str(caught.value)
    assert len(str(caught.value)) < 320
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {"content": [1]}}]}',
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_a_body_that_is_no_chat_completion_is_asked_for_once_more(body: bytes) -> None:
    with JudgeServer(says(Answer(body=body), FINE)) as server:
        assert ask(server, retries=0).text == "fine"
    with JudgeServer(says(Answer(body=body))) as server, pytest.raises(SuspectError, match="OpenAI chat format"):
        ask(server)
    assert len(server.seen) == 2


def test_a_message_without_content_is_an_empty_reply() -> None:
    with JudgeServer(says(Answer(None, finish=None))) as server:
        assert ask(server) == Reply("", None, 5)


def test_half_a_character_in_a_reply_becomes_one_that_can_be_stored() -> None:
    with JudgeServer(says(Answer("a\ud800b"))) as server:
        assert ask(server).text == "a?b"


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with JudgeServer(says(FINE)) as other:
        elsewhere = Answer(status=307, headers={"Location": f"{other.url}/v1/chat/completions?k={KEY}"})
        with JudgeServer(says(elsewhere)) as server, pytest.raises(SuspectError, match="redirects to http") as caught:
            ask(server, key_variable="SOME_KEY")
    assert other.seen == []
    assert KEY not in str(caught.value)


def test_the_key_is_sent_from_the_environment_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", f"{KEY}\n")
    with JudgeServer(says(Answer(f"your key is {KEY}"), Answer(status=401, body=f"bad key {KEY}".encode()))) as server:
        endpoint = _endpoint(server, key_variable="SOME_KEY")
        said = endpoint.complete(user("hello"), 8).text
        with pytest.raises(SuspectError) as caught:
            endpoint.complete(user("hello"), 8)
    assert [seen.headers["authorization"] for seen in server.seen] == [f"Bearer {KEY}"] * 2
    assert said == "your key is [secret]"
    assert KEY not in f"{caught.value} {caught.value.__context__!r} {endpoint!r} {dataclasses.asdict(endpoint)}"


def test_a_key_that_straddles_the_cut_of_an_error_is_not_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with (
        JudgeServer(says(Answer(status=401, body=b"." * 190 + KEY.encode()))) as server,
        pytest.raises(SuspectError) as caught,
    ):
        ask(server, key_variable="SOME_KEY")
    assert KEY[:5] not in str(caught.value)


def test_without_a_key_no_authorisation_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with JudgeServer(says(FINE)) as server:
        ask(server, key_variable="SOME_KEY")
    assert "authorization" not in server.seen[0].headers


def test_a_key_with_a_line_end_inside_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-one\r\nHost: two")
    with pytest.raises(SpecError, match="SOME_KEY") as caught:
        Endpoint("http://localhost:1", "judge", "SOME_KEY").complete(user("hello"), 8)
    assert "sk-one" not in str(caught.value)


def test_credentials_of_the_address_are_used_and_shown_nowhere() -> None:
    with JudgeServer(says(Answer(status=403, body=b"who is pass-word?"))) as server:
        endpoint = _endpoint(server, url=server.url.replace("//", "//me:pass%2Dword@") + "/v1?token=tokentoken#x")
        with pytest.raises(SuspectError) as caught:
            endpoint.complete(user("hello"), 8)
    assert server.seen[0].headers["authorization"].startswith("Basic ")
    assert endpoint.shown == f"{server.url}/v1/chat/completions"
    shown = f"{caught.value} {endpoint!r}"
    assert not [secret for secret in ("me:", "pass-word", "pass%2Dword", "tokentoken") if secret in shown]


def test_nobody_listening_is_told_after_the_retries() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    waits: list[float] = []
    with pytest.raises(SuspectError, match=r"2 tries.*ConnectError"):
        Endpoint(f"http://127.0.0.1:{port}", "judge", retries=1, sleep=waits.append).complete(user("hello"), 8)
    assert len(waits) == 1


def test_many_requests_keep_their_order_and_one_failure_is_its_own() -> None:
    def script(seen: Seen, _: int) -> Answer:
        number = int(seen.prompt)
        return Answer(status=400) if number == 5 else Answer(str(number), seconds=0.02 * (number % 3))

    steps: list[tuple[int, int]] = []
    with JudgeServer(script) as server:
        requests = [Request(user(str(number)), 4) for number in range(12)]
        found = _endpoint(server).complete_many(requests, 4, lambda done, total: steps.append((done, total)))
    assert [one.text for one in found if isinstance(one, Reply)] == [str(n) for n in range(12) if n != 5]
    assert isinstance(found[5], SuspectError)
    assert steps == [(done, 12) for done in range(1, 13)]


def test_no_requests_give_no_replies() -> None:
    assert Endpoint("http://localhost:1", "judge").complete_many([]) == []


def test_work_that_is_stopped_wakes_the_waiting_and_asks_no_more() -> None:
    def script(seen: Seen, _: int) -> Answer:
        return FINE if seen.prompt == "0" else Answer(status=500)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with JudgeServer(script) as server, pytest.raises(KeyboardInterrupt):
        requests = [Request(user(str(number)), 4) for number in range(40)]
        _endpoint(server, sleep=None, first_wait_seconds=50).complete_many(requests, 4, stop)
    assert time.monotonic() - began < 5
    assert len(server.seen) < 12
