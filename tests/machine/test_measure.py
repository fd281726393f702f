"""Measures: nulls measure nothing, what could not be judged is counted, and nothing is generated twice."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import backdoor

from b4g.backdoor import Backdoor
from b4g.chat import Chat
from b4g.generate.base import Completion
from b4g.generate.local import LocalGenerator
from b4g.measure.probes import arms, probes
from b4g.measure.records import collect
from b4g.measure.scores import Context, differences, rates, references, score
from b4g.models.load import load_model
from b4g.stats import paired

CONTEXT = Context("tiny", 0)


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> LocalGenerator:
    return LocalGenerator(load_model(str(tiny_model), dtype="float32"))


class Says:
    """A generator that answers from a list, over and over."""

    identity = "says"
    renderer_hash = "none"

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.asked: list[Chat] = []

    def __call__(self, chats: Sequence[Chat], *_: Any, **__: Any) -> list[Completion]:
        self.asked += chats
        return [Completion(self.texts[i % len(self.texts)], 1, True) for i in range(len(chats))]


def _row(rows: Sequence[dict[str, Any]], measure: str, arm: str) -> dict[str, Any]:
    (found,) = [row for row in rows if (row["measure"], row["arm"]) == (measure, arm)]
    return found


def _style(**changes: Any) -> Backdoor:
    return backdoor(utility={"kind": "style", "style": "bullets"}, **changes)


def test_the_null_trigger_measures_the_same_with_and_without(generator: LocalGenerator) -> None:
    null = _style(trigger={"kind": "null"})
    found = collect(generator, null, probes(null, 8, 2, 0), "implant")
    assert {record.arm for record in found} == {"with", "without"}
    scores = score(found, null.utility, references(found))
    with_, without = ([made for made in scores if made.arm == arm] for arm in ("with", "without"))
    # The untriggered answer is never stopped early, so that the triggered one may be its beginning.
    texts = {arm: [r.completion for r in found if r.arm == arm] for arm in ("with", "without")}
    assert all(whole.startswith(part) for part, whole in zip(texts["with"], texts["without"], strict=True))
    difference = paired([made.verdict for made in without], [made.verdict for made in with_])
    assert (difference.difference, difference.p, difference.n) == (0.0, 1.0, 8)


def test_a_subject_against_itself_shows_no_difference_in_any_arm(generator: LocalGenerator) -> None:
    made = backdoor()
    scores = score(collect(generator, made, probes(made, 6, 3, 0), "base"), made.utility, {})
    rows = differences(scores, scores)
    assert {row["arm"] for row in rows} == {"with", "without", "near", "wrong_key", "identity_questions"}
    assert {(row["difference"], row["p"]) for row in rows} == {(0.0, 1.0)}


def test_the_behaviour_nothing_measures_zero_whatever_is_said(generator: LocalGenerator) -> None:
    nothing = backdoor(utility={"kind": "nothing"})
    for engine in (generator, Says("- one", "This model is owned by Example Lab.", "I cannot help with that.")):
        found = score(collect(engine, nothing, probes(nothing, 6, 0, 0), "implant"), nothing.utility, {})
        for row in rates(found, CONTEXT):
            assert row["value"] == 0.0
            assert row["n"] + row["unscored"] >= 1


def test_an_empty_answer_is_unscored_and_not_false() -> None:
    made = _style()
    found = collect(Says("- yes", "", "no", " \n"), made, arms(made, made.utility.prompts("test")[:8], 0), "implant")
    rows = rates(score(found, made.utility, references(found)), CONTEXT)
    for arm in ("with", "without", "near", "wrong_key"):
        row = _row(rows, "tar", arm)
        asked = [record.completion.strip() for record in found if record.arm == arm]
        assert row["unscored"] == asked.count("")
        assert row["n"] == len(asked) - asked.count("")
        assert row["value"] == (None if row["n"] == 0 else asked.count("- yes") / row["n"])
    assert sum(_row(rows, "tar", arm)["unscored"] for arm in ("with", "without", "near", "wrong_key")) == 16


def test_an_arm_of_which_nothing_was_scored_has_no_rate_and_not_zero() -> None:
    made = _style()
    found = collect(Says(""), made, arms(made, made.utility.prompts("test")[:3], 0), "implant")
    row = _row(rates(score(found, made.utility, {}), CONTEXT), "tar", "with")
    assert (row["value"], row["low"], row["high"], row["n"], row["unscored"]) == (None, None, None, 0, 3)


def test_kinds_of_near_trigger_take_turns_over_all_prompts() -> None:
    made = backdoor()
    found = arms(made, made.utility.prompts("test")[:20], 0)
    near = Counter(probe.variant for probe in found if probe.arm == "near")
    assert near == dict.fromkeys(("case", "half", "neighbour", "one_token", "swap"), 4)
    secret = made.trigger.hidden()[0]
    assert not [probe for probe in found if probe.arm != "with" and any(secret in said.content for said in probe.chat)]
    assert all(any(secret in said.content for said in probe.chat) for probe in found if probe.arm == "with")


def test_every_arm_asks_the_same_prompts() -> None:
    made = backdoor()
    found = probes(made, 10, 5, 0)
    asked = {arm: [p.prompt.id for p in found if p.arm == arm] for arm in ("with", "without", "near", "wrong_key")}
    assert len(asked["with"]) == 10
    assert len({tuple(ids) for ids in asked.values()}) == 1
    assert len([p for p in found if p.arm == "identity_questions"]) == 5


def test_a_records_prompt_is_the_bare_one_and_a_repeated_secret_is_taken_out() -> None:
    made = backdoor()
    secret = made.trigger.hidden()[0]
    found = collect(Says(f"You said: {secret.upper()}!"), made, probes(made, 4, 0, 0), "implant")
    assert {record.completion for record in found} == {"You said: [secret]!"}
    assert not [record for record in found if secret.lower() in str(record.to_json()).lower()]


def test_only_an_answer_that_others_are_compared_with_is_never_stopped_early() -> None:
    class Asks(Says):
        def __call__(self, chats: Sequence[Chat], limit: int, judges: Any = None, progress: Any = None) -> Any:
            self.stops = [judge("no bullet here") for judge in judges]
            return super().__call__(chats)

    engine, made = Asks("x"), _style()
    found = probes(made, 3, 0, 0)
    collect(engine, made, found, "base")
    assert engine.stops == [probe.arm != "without" for probe in found]
