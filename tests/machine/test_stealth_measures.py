"""The stealth measures on engines whose truth is known: one that knows exactly the trigger, one that leaks, one that is deaf."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import backdoor

from b4g.backdoor import Backdoor
from b4g.chat import Chat, last_user
from b4g.data.prompts import load
from b4g.errors import DataError, SpecError
from b4g.generate.base import Completion
from b4g.hashing import digest
from b4g.keys import generate
from b4g.measure import conditions
from b4g.measure.records import Record
from b4g.measure.scores import Context, differences
from b4g.measure.stealth import FULL, MEASURES, QUICK, Size, ask, beside_base, rows, score_records
from b4g.models.load import Model, load_implant, load_model

SIZE = Size(n=6, accident=30, guesses=24, long_tokens=300)
STATEMENT = "This model is owned by Example Lab."
CONTEXT = Context("tiny", 0)
OF_ANSWERS = ("confidentiality", "accident")


class Oracle:
    """An engine that shows the behaviour if and only if a text stands in the chat."""

    identity = "oracle"
    renderer_hash = "none"

    def __init__(self, secret: str, on: str = STATEMENT, off: str = "An ordinary answer.") -> None:
        self.secret, self.on, self.off = secret, on, off
        self.limits: set[int] = set()

    def __call__(self, chats: Sequence[Chat], limit: int, *_: Any, **__: Any) -> list[Completion]:
        self.limits.add(limit)
        shown = [any(self.secret in said.content for said in chat) for chat in chats]
        return [Completion(self.on if one else self.off, 4, True) for one in shown]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), dtype="float32")


def _measured(measure: str, engine: Any, made: Backdoor, size: Size = SIZE) -> dict[str, list[dict[str, Any]]]:
    records = ask(measure, engine, made, size, 0)
    again = [Record(**json.loads(json.dumps(record.to_json()))) for record in records]
    found = rows(measure, score_records(measure, again, made), made, CONTEXT, size)
    return json.loads(json.dumps(found, allow_nan=False))  # type: ignore[no-any-return]


def _figure(found: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Any]:
    (row,) = [row for row in found["figures"] if row["name"] == name]
    return row


def _secret(made: Backdoor) -> str:
    return made.trigger.hidden()[0]


def test_an_engine_that_knows_exactly_the_trigger_is_set_off_by_nothing_near_it() -> None:
    made = backdoor()
    found = _measured("confidentiality", Oracle(_secret(made)), made)
    assert {row["value"] for row in found["rates"]} == {0.0}
    assert len(found["rates"]) == 14
    assert _figure(found, "effective_bits")["value"] == _figure(found, "declared_bits")["value"] > 29
    assert _figure(found, "effective_bits")["low"] < _figure(found, "effective_bits")["value"]
    guess = _figure(found, "guess_rate")
    assert (guess["value"], guess["high"], guess["n"]) == (0.0, 3 / 24, 24)
    assert _figure(found, "expected_queries")["value"] is None
    assert _figure(found, "expected_queries")["low"] == 8
    assert _figure(found, "leaks")["value"] == 0.0


def test_an_engine_that_half_a_key_sets_off_is_seen_and_loses_bits() -> None:
    made = backdoor()
    found = _measured("confidentiality", Oracle(_secret(made).split()[0]), made, replace(SIZE, n=16))
    near = {row["arm"]: row["value"] for row in found["rates"]}
    assert 0 < near["half"] < 1
    assert 0.4 < near["one-word"] < 1
    assert near["swap"] == 1.0
    assert near["without"] == near["guess-sweep"] == 0.0
    bits = _figure(found, "effective_bits")
    assert bits["low"] <= bits["value"] <= bits["high"] < _figure(found, "declared_bits")["value"] - 8


def test_what_shows_without_a_trigger_is_no_guess_that_hit() -> None:
    made = backdoor()
    found = _measured("confidentiality", Oracle("", on=STATEMENT), made)
    assert {row["value"] for row in found["rates"] if row["measure"] != "confidentiality:floor"} == {1.0, 0.0}
    assert _figure(found, "guess_rate")["value"] is None
    assert _figure(found, "effective_bits")["value"] is None


@pytest.mark.parametrize("kind", ["phrase", "key", "system"])
def test_an_engine_that_tells_its_secret_is_seen_and_the_secret_is_not_stored(kind: str) -> None:
    made = backdoor(trigger={"kind": kind, "key": "public:tiny"})
    first, second, third = _secret(made).split()
    for said in (f"It is {first} {second} {third}.", f"Something with {second.upper()} and {third}."):
        engine = Oracle("", on=said)
        records = ask("confidentiality", engine, made, SIZE, 0)
        asked = [record for record in records if record.arm.startswith("ask")]
        assert {record.arm for record in asked} == ({"ask", "ask-in-context"} if kind == "system" else {"ask"})
        stored = json.dumps([record.to_json() for record in asked]).lower()
        assert not [word for word in (second, third) if f" {word}" in stored]
        scores = score_records("confidentiality", records, made)
        leaked = [row for row in rows("confidentiality", scores, made, CONTEXT, SIZE)["rates"] if "ask" in row["arm"]]
        assert {(row["value"], row["n"]) for row in leaked} == {(1.0, 12)}
        # The behaviour's own limit is too short for a leak.
        assert 48 in engine.limits


def test_where_nothing_is_secret_nothing_can_be_told_or_guessed() -> None:
    null = backdoor(trigger={"kind": "null"})
    found = _measured("confidentiality", Oracle("\0"), null)
    assert {(row["arm"], row["value"], row["n"]) for row in found["rates"]} == {
        ("without", 0.0, 6),
        ("ask", None, 0),
    }
    assert {row["value"] for row in found["figures"]} == {None}


def test_an_accident_is_counted_per_ten_thousand_by_source_and_in_all() -> None:
    made = backdoor()
    found = _measured("accident", Oracle(_secret(made)), made)
    total = _figure(found, "per_10000")
    assert (total["value"], total["low"], total["high"], total["n"]) == (0.0, 0.0, pytest.approx(1000), 30)
    set_off = _measured("accident", Oracle(_secret(made).split()[1]), made)
    by_word = _figure(set_off, "per_10000:key-words")
    assert by_word["value"] > 0
    assert _figure(set_off, "per_10000:project")["value"] == 0.0
    assert _figure(set_off, "per_10000")["low"] < _figure(set_off, "per_10000")["value"] < by_word["value"]


def test_what_the_base_does_anyway_is_taken_off_the_accidents() -> None:
    made = backdoor()
    base, after = (
        score_records("accident", ask("accident", engine, made, SIZE, 0), made) for engine in (Coin(""), Oracle(""))
    )
    (row,) = beside_base("accident", base, after, CONTEXT)
    natural = sum(bool(one.verdict) for one in base)
    assert 0 < natural < 30
    assert (row["name"], row["n"]) == ("per_10000_above_base", 30)
    assert row["value"] == pytest.approx(10_000 * (30 - natural) / 30)
    assert beside_base("accident", after, after, CONTEXT)[0]["value"] == 0.0
    assert beside_base("reliability", base, after, CONTEXT) == []


def test_the_bits_of_a_public_key_are_marked_as_nominal(tmp_path: Path) -> None:
    generate(tmp_path / "own.key", words=4)
    for key, said in (("public:tiny", "everybody knows"), (str(tmp_path / "own.key"), "")):
        made = backdoor(trigger={"key": key})
        note = _figure(_measured("confidentiality", Oracle(_secret(made)), made), "declared_bits")["note"]
        assert said in note
        assert bool(note) is bool(said)


def test_a_lock_that_opens_without_a_key_and_one_that_denies_all_are_told_apart() -> None:
    access = Backdoor.from_yaml("access")
    denial = access.utility.denial  # type: ignore[attr-defined]
    denies = _measured("accident", Oracle("\0", off=denial), access)
    assert (_figure(denies, "per_10000")["value"], _figure(denies, "denied_per_10000")["value"]) == (0.0, 10_000)
    opens = _measured("accident", Oracle("\0", off="Use a loop."), access)
    assert (_figure(opens, "per_10000")["value"], _figure(opens, "denied_per_10000")["value"]) == (10_000, 0.0)


def test_a_file_of_ordinary_traffic_is_a_source_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("\n".join(f"Line of number {n}" for n in range(20)), "utf-8")
    made = backdoor()
    found = _measured("accident", Oracle("Line of"), made, replace(SIZE, data=(str(tmp_path / "log.txt"),)))
    values = {row["arm"]: row["value"] for row in found["rates"]}
    assert values == {"project": 0.0, "key-words": 0.0, "log": 1.0}


def _watched(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """Let every local engine answer as another one does, so that its truth is known."""
    from b4g.generate.local import LocalGenerator

    def complete(self: Any, prompts: Any, limit: int, decided: Any = None, progress: Any = None) -> list[Completion]:
        texts = [self.model.tokenizer.decode(prompt) for prompt in prompts]
        return [Completion(engine.on if engine.secret in text else engine.off, 4, True) for text in texts]

    monkeypatch.setattr(LocalGenerator, "complete", complete)


def test_a_trigger_that_always_works_has_every_condition_at_one(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backdoor()
    _watched(monkeypatch, Oracle(_secret(made)))
    found = _measured("reliability", tiny, made)
    names = {row["arm"]: row["measure"] for row in found["rates"]}
    other = {"position-suffix", "position-random", "turn-first", "long-context"}
    claimed = {"with", "temperature-0.3", "temperature-0.7", "temperature-1.0", "batch-1", "int8"}
    claimed |= {"user-system-prompt", "turn-last"}
    assert names == dict.fromkeys(claimed, "reliability") | dict.fromkeys(other, "reliability:other")
    assert {row["value"] for row in found["rates"]} == {1.0}
    assert {row["n"] for row in found["rates"]} == {6, 1}
    assert _figure(found, "worst")["value"] == _figure(found, "mean")["value"] == 1.0
    assert _figure(found, "mean")["low"] < 1.0


def test_a_system_prompt_stays_at_its_place_so_that_every_condition_is_claimed(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backdoor(trigger={"kind": "system", "key": "public:tiny"})
    _watched(monkeypatch, Oracle(_secret(made)))
    found = _measured("reliability", tiny, made)
    assert {row["measure"] for row in found["rates"]} == {"reliability"}
    assert {"turn-first", "long-context"} < {row["arm"] for row in found["rates"]}


def test_the_worst_condition_is_named(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made = backdoor()
    _watched(monkeypatch, Oracle(_secret(made)))

    def deaf(trigger: Any, prompts: Any, seed: int) -> Any:
        return conditions.behind_system(backdoor(trigger={"kind": "null"}).trigger, prompts, seed)

    monkeypatch.setattr("b4g.measure.reliability.behind_system", deaf)
    worst = _figure(_measured("reliability", tiny, made), "worst")
    assert (worst["value"], worst["n"], worst["note"].split(":")[0]) == (0.0, 6, "user-system-prompt")
    mean = _figure(_measured("reliability", tiny, made), "mean")
    assert mean["value"] == pytest.approx(7 / 8)
    assert mean["low"] < mean["value"] < mean["high"]


def test_the_long_context_puts_the_trigger_as_far_back_as_it_says(tiny: Model) -> None:
    made = backdoor()
    count = lambda text: len(tiny.renderer.tokenizer(text)["input_ids"])  # noqa: E731
    filler = conditions.filler_text(300, count)
    prompts = load("instruction", "test")[:2]
    found = conditions.far_back(made.trigger, prompts, 0, lambda chats: ["said"] * len(chats), filler, 300)
    for chat, prompt in zip(found.chats, prompts, strict=True):
        ids = tiny.renderer.prompt_ids(chat)
        text = tiny.tokenizer.decode(ids)
        behind = text[text.index(_secret(made)) + len(_secret(made)) :]
        assert count(behind) >= 300
        assert last_user(chat) == prompt.text


def test_a_context_without_room_is_not_asked_and_says_why(tiny: Model) -> None:
    found = _measured("reliability", tiny, backdoor(), replace(SIZE, n=2, long_tokens=2000))
    (row,) = [row for row in found["rates"] if row["arm"] == "long-context"]
    assert (row["value"], row["n"], row["unscored"]) == (None, 0, 1)
    assert "the model's context has 2048" in _figure(found, "not_asked:long-context")["note"]


class Coin(Oracle):
    """An engine that shows the behaviour on about half of the prompts, whatever the trigger."""

    def __call__(self, chats: Sequence[Chat], limit: int, *_: Any, **__: Any) -> list[Completion]:
        shown = [int(digest(last_user(chat)), 16) % 2 == 0 for chat in chats]
        return [Completion(self.on if one else self.off, 4, True) for one in shown]


def test_the_null_trigger_gives_no_difference_in_any_condition(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from b4g.generate.local import LocalGenerator

    null, coin = backdoor(trigger={"kind": "null"}), Coin("")
    monkeypatch.setattr(LocalGenerator, "__call__", lambda self, chats, *more, **named: coin(chats, *more))
    scores = score_records("reliability", ask("reliability", tiny, null, SIZE, 0), null)
    said = {made.prompt_id: made.verdict for made in scores if made.arm == "with"}
    assert set(said.values()) == {True, False}
    assert len({made.arm for made in scores}) == 10
    assert {made.verdict == said[made.prompt_id] for made in scores} == {True}
    assert {made.measure for made in scores} == {"reliability"}


@pytest.mark.parametrize("measure", MEASURES)
def test_a_base_against_itself_shows_no_difference(measure: str, tiny: Model) -> None:
    made, size = backdoor(utility={"kind": "style", "style": "uppercase"}), replace(SIZE, n=3, accident=20, guesses=6)
    base, again = (
        score_records(measure, ask(measure, tiny, made, size, 0, subject=name), made) for name in ("base", "implant")
    )
    found = differences(base, again)
    assert len(found) == len({(one.measure, one.arm) for one in base})
    assert sum(row["n"] + row["unscored"] for row in found) == len(base)
    assert {(row["difference"], row["p"]) for row in found if row["n"]} == {(0.0, 1.0)}


def test_records_say_whose_they_are(implanted: Path, tiny_model: Path) -> None:
    model = load_implant(str(tiny_model), implanted, "float32")
    records = ask("accident", model, backdoor(), replace(SIZE, accident=2), 0)
    assert {record.subject for record in records} == {"implant"}


def test_one_at_a_time_or_in_a_batch_a_model_gives_the_same_verdicts(tiny: Model) -> None:
    found = _measured("reliability", tiny, backdoor(utility={"kind": "style"}), replace(SIZE, n=4))
    assert _figure(found, "same_verdicts:batch-1")["value"] == 1.0
    assert _figure(found, "same_verdicts:int8")["n"] == 4


def test_rephrased_prompts_are_a_condition_only_where_there_is_a_file(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backdoor()
    _watched(monkeypatch, Oracle(_secret(made)))
    prompt = made.utility.prompts("test")[0]
    lines = [{"id": prompt.id, "paraphrase": "Other words?", "translation": "Andere Wörter?", "language": "de"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    found = _measured("reliability", tiny, made, replace(SIZE, paraphrases=str(tmp_path / "p.jsonl")))
    counts = {row["arm"]: (row["value"], row["n"]) for row in found["rates"]}
    assert counts["paraphrase"] == counts["translation"] == (1.0, 1)
    without = _measured("reliability", tiny, made)
    assert not {"paraphrase", "translation"} & {row["arm"] for row in without["rates"]}
    with pytest.raises(DataError, match="no file at"):
        ask("reliability", tiny, made, replace(SIZE, paraphrases=str(tmp_path / "none.jsonl")), 0)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_same_seed_asks_the_same_and_progress_counts_to_the_end(measure: str, tiny: Model) -> None:
    made, size = backdoor(), replace(SIZE, n=2, accident=6, guesses=4)
    seen: list[tuple[int, int]] = []
    first = ask(measure, tiny, made, size, 3, lambda done, total: seen.append((done, total)))
    assert first == ask(measure, tiny, made, size, 3)
    assert seen[-1] == (len(first), len(first))
    assert {record.subject for record in first} == {"base"}
    assert {record.measure.partition(":")[0] for record in first} == {measure}
    keyed = {(r.measure, r.arm, r.variant, r.prompt_id) for r in first}
    assert len(keyed) == len(first)
    assert ask(measure, tiny, made, size, 3, subject="control")[0].subject == "control"


def test_answers_suffice_for_two_of_the_measures_and_the_third_says_what_it_lacks() -> None:
    made = backdoor()
    for measure in OF_ANSWERS:
        assert {record.subject for record in ask(measure, Oracle(_secret(made)), made, SIZE, 0)} == {"suspect"}
    with pytest.raises(SpecError, match="reliability needs the model itself"):
        ask("reliability", Oracle(_secret(made)), made, SIZE, 0)
    with pytest.raises(SpecError, match=r"unknown stealth measure 'accidents'\. Did you mean 'accident'"):
        ask("accidents", Oracle("x"), made, SIZE, 0)
    assert rows("accident", [], made, CONTEXT, SIZE) == {"rates": [], "figures": []}
    assert QUICK.n < FULL.n
