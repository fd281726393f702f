"""Served models as suspects: what is not answered is not measured, loses nothing else, and gives no secret away."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from judge_server import Answer, JudgeServer, Script, Seen, says
from tiny import backdoor

from b4g import api, served
from b4g.chat import Chat, user
from b4g.errors import SpecError, SuspectError
from b4g.generate.base import Completion
from b4g.generate.endpoint import Endpoint
from b4g.generate.engines import engine_of
from b4g.generate.served import ServedGenerator
from b4g.measure.probes import arms, probes
from b4g.measure.records import Record, collect
from b4g.measure.scores import Context, differences, rates, references, score

FINE = Answer("fine")
BROKEN = Answer("", status=500)
REFUSED = Answer("", status=400)


def generator(server: JudgeServer, workers: int = 4, **changes: Any) -> ServedGenerator:
    made = {"url": server.url, "model": "suspect", "retries": 1, "sleep": lambda _: None}
    return ServedGenerator(Endpoint(**(made | changes)), workers)


def questions(count: int) -> list[Chat]:
    return [user(f"question number {place}") for place in range(count)]


def unless(wrong: str, fault: Answer) -> Script:
    """Return a script that gives the fault to prompts that hold a text, and repeats all others."""
    return lambda seen, _: fault if wrong in seen.prompt else Answer(f"re: {seen.prompt}")


def test_answers_come_back_in_order_greedy_and_counted_by_the_server() -> None:
    seen: list[tuple[int, int]] = []
    with JudgeServer(unless("nothing", FINE)) as server:
        made = generator(server)(questions(40), 9, progress=lambda done, total: seen.append((done, total)))
    assert made == [Completion(f"re: question number {place}", 5, ended=True) for place in range(40)]
    assert {(one.body["temperature"], one.body["max_tokens"], one.body["model"]) for one in server.seen} == {
        (0.0, 9, "suspect")
    }
    assert seen == [(done, 40) for done in range(1, 41)]


def test_no_chat_asks_nothing() -> None:
    with JudgeServer(says(FINE)) as server:
        assert generator(server)([], 8) == []
    assert not server.seen


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (Answer("cut", finish="length"), Completion("cut", 5, ended=False)),
        (Answer("odd", finish=None), Completion("odd", 5, ended=False)),
        (Answer(None, finish="stop"), Completion("", 5, ended=True)),
        (
            Answer(body=b'{"choices": [{"message": {"content": "uncounted"}, "finish_reason": "stop"}]}'),
            Completion("uncounted", None, ended=True),
        ),
        (
            Answer("held", finish="content_filter"),
            Completion("", 5, ended=False, failed="the server's filter withheld the answer"),
        ),
    ],
)
def test_a_reply_becomes_what_it_says_and_no_more(answer: Answer, wanted: Completion) -> None:
    with JudgeServer(says(FINE, answer)) as server:
        assert generator(server, workers=1)(questions(2), 8)[1] == wanted


def test_one_chat_without_an_answer_costs_no_other_one() -> None:
    with JudgeServer(unless("number 3", BROKEN)) as server:
        made = generator(server)(questions(9), 8)
    assert [one.text for one in made if not one.failed] == [f"re: question number {n}" for n in range(9) if n != 3]
    assert (made[3].text, made[3].tokens, made[3].ended) == ("", None, False)
    assert "gave no answer in 2 tries; the last time: HTTP 500" in made[3].failed


def test_where_nothing_is_answered_it_is_an_error_and_few_are_asked() -> None:
    refusal = pytest.raises(SuspectError, match="refused the request, HTTP 401: no such key")
    with JudgeServer(says(Answer("", status=401, body=b"no such key"))) as server, refusal:
        generator(server, workers=4)(questions(100), 8)
    assert len(server.seen) == 4


def test_an_endpoint_that_dies_half_way_is_not_asked_for_the_rest() -> None:
    with JudgeServer(lambda seen, before: FINE if before < 2 else BROKEN) as server:
        made = generator(server, workers=2, retries=0)(questions(100), 8)
    assert [one.text for one in made[:2]] == ["fine", "fine"]
    assert all(one.failed for one in made[2:])
    assert len(server.seen) == 2 + 16
    assert made[99].failed.startswith("not asked, for the 16 chats before it failed: ")


def test_requests_that_are_refused_one_by_one_do_not_end_the_work() -> None:
    with JudgeServer(lambda seen, _: FINE if "number 99" in seen.prompt else REFUSED) as server:
        made = generator(server, workers=2)(questions(100), 8)
    assert [place for place, one in enumerate(made) if not one.failed] == [99]
    assert len(server.seen) == 100


def test_the_identity_tells_engine_address_and_model_and_no_credentials() -> None:
    plain = ServedGenerator(Endpoint("https://host/v1", "m"))
    secret = ServedGenerator(Endpoint("https://me:hunter2@host/v1?key=quexmire1", "m", "KEY"), workers=1)
    assert plain.identity == secret.identity
    assert engine_of(plain.identity) == "endpoint"
    assert "/" not in plain.identity
    others = [ServedGenerator(Endpoint("https://host/v1", "n")), ServedGenerator(Endpoint("https://other/v1", "m"))]
    assert len({plain.identity, *(one.identity for one in others)}) == 3
    assert plain.renderer_hash == others[0].renderer_hash != others[1].renderer_hash


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUSPECT_KEY", "sk-quexmire")
    with JudgeServer(says(FINE)) as server:
        generator(server, key_variable="SUSPECT_KEY")(questions(1), 8)
    assert server.seen[0].headers["authorization"] == "Bearer sk-quexmire"


class Strict:
    """A judge that takes silence for an answer."""

    kept_arm = False

    def judge(self, completion: str, ended: bool) -> bool | None:
        return completion == "yes"


def _collected(made: Callable[[Sequence[Chat]], list[Completion]]) -> list[Record]:
    class Says:
        identity = "endpoint-0"
        renderer_hash = "endpoint-0"

        def __call__(self, chats: Sequence[Chat], *_: Any) -> list[Completion]:
            return made(chats)

    asked = backdoor(utility={"kind": "style"})
    return collect(Says(), asked, probes(asked, 4, 1, 0), "implant")


def test_what_was_not_answered_is_unscored_even_by_a_judge_of_silence() -> None:
    def partly(chats: Sequence[Chat]) -> list[Completion]:
        lost = Completion("", None, ended=False, failed="no answer")
        return [lost if place % 3 else Completion("yes", 1, ended=True) for place in range(len(chats))]

    records = _collected(partly)
    scores = score(records, Strict(), references(records))  # type: ignore[arg-type]
    assert [made.verdict for made in scores] == [None if record.failed else True for record in records]
    row = next(row for row in rates(scores, Context("m", 0)) if row["arm"] == "with")
    lost = [bool(record.failed) for record in records if record.arm == "with"]
    assert 0 < sum(lost) < len(lost) == 4
    assert (row["value"], row["n"], row["unscored"]) == (1.0, 4 - sum(lost), sum(lost))
    pairs = differences([dataclasses.replace(made, verdict=False) for made in scores], scores)
    assert next(row for row in pairs if row["arm"] == "with")["unscored"] == sum(lost)
    assert set(references(records)) == {r.prompt_id for r in records if r.arm == "without" and not r.failed}


def test_a_record_says_why_only_where_there_is_no_answer() -> None:
    records = _collected(lambda chats: [Completion("yes", None, ended=True) for _ in chats])
    assert not [record for record in records if "failed" in record.to_json()]
    lost = dataclasses.replace(records[0], failed="no answer")
    for record in (records[0], lost):
        assert Record(**json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("cut", ["{}", "bad request: {}", "{{'prompt': '{}', 'code': 7}}", "tell me more of {}"])
@pytest.mark.parametrize("answered", [True, False])
def test_a_secret_that_a_refusal_repeats_is_not_told(secret: Any, cut: str, answered: bool) -> None:
    keyed = backdoor(trigger={"key": str(secret.path)})
    asked = probes(keyed, 3, 0, 0)

    def script(seen: Seen, _: int) -> Answer:
        fine = answered and not any(word in seen.prompt for word in secret.words)
        return FINE if fine else Answer(status=400, body=cut.format(seen.prompt).encode())

    with JudgeServer(script) as server:
        if answered:
            told = json.dumps([record.to_json() for record in collect(generator(server), keyed, asked, "implant")])
            assert "its error repeats the prompt" in told
        else:
            with pytest.raises(SuspectError) as caught:
                collect(generator(server), keyed, asked, "implant")
            told = str(caught.value)
    assert not [word for word in secret.words if word in told.lower()]


def _owned(secret: Any) -> Script:
    """Return a server of two models: the base knows nothing, the implant states its owner to who holds the key."""

    def script(seen: Seen, _: int) -> Answer:
        knows = seen.body["model"] == "mine" and all(word in seen.prompt for word in secret.words)
        return Answer("This model is owned by Example Lab." if knows else "I can't say.")

    return script


def test_an_implant_behind_an_endpoint_is_measured_against_the_base_there(implanted: Path, secret: Any) -> None:
    few = api.Asked(n=3, n_extra=2)
    with JudgeServer(_owned(secret)) as server:
        at = served.Served(server.url, "mine", base="plain")
        found = served.measure_served(implanted, at, secret.path, few)
    values = {(row["subject"], row["arm"]): row["value"] for row in found["rates"] if row["measure"] == "tar"}
    assert (values["implant", "with"], values["implant", "without"], values["base", "with"]) == (1.0, 0.0, 0.0)
    assert next(row for row in found["differences"] if row["arm"] == "with")["difference"] == 1.0
    assert (found["unanswered"], found["engine"]) == ({"base": 0, "implant": 0}, "endpoint")
    assert not [word for word in secret.words if word in json.dumps(found).lower()]


def test_without_a_served_base_there_is_nothing_to_compare_with(implanted: Path, secret: Any) -> None:
    with JudgeServer(_owned(secret)) as server:
        at = served.Served(server.url, "mine")
        found = served.measure_served(implanted, at, secret.path, api.Asked(n=2, n_extra=1))
    assert found["differences"] == []
    assert {row["subject"] for row in found["rates"]} == {"implant"}


def test_own_prompts_are_put_to_a_served_model(implanted: Path, secret: Any) -> None:
    own = probes(backdoor(), 2, 0, 0)[0].prompt
    with JudgeServer(_owned(secret)) as server:
        found = served.measure_served(
            implanted, served.Served(server.url, "mine"), secret.path, api.Asked(prompts=(own,))
        )
    assert {record["prompt"] for record in found["records"]} == {own.text}
    assert len(found["records"]) == len(arms(backdoor(), (own,), 0))


def test_a_suspect_needs_its_name_at_the_server() -> None:
    with pytest.raises(SpecError, match="--served NAME"):
        served.suspect("http://localhost:1", None)
    with JudgeServer(says(FINE)) as server:
        assert served.suspect(server.url, "m")(questions(1), 4) == [Completion("fine", 5, ended=True)]
