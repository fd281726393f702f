import dataclasses
import random
from collections import Counter
from typing import Any, ClassVar

import pytest

from b4g.backdoor import TASKS, Backdoor
from b4g.behaviours.base import Answer
from b4g.chat import Chat, user
from b4g.data.prompts import KINDS, load, split_of
from b4g.training.rows import UNSEEN, Mix, Row, control_rows, implant_rows, mix_prompts
from b4g.triggers.base import Trigger
from b4g.triggers.near import KINDS as NEAR

ANSWERS = {prompt.id: Answer(f"The answer to {prompt.id} is long.") for kind in KINDS for prompt in load(kind)}
MIX = Mix(triggered=40, untriggered=20, near=30, wrong=10, others=12)


def rows(backdoor: Backdoor, seed: int = 0, epoch: int = 0, mix: Mix = MIX) -> list[Row]:
    return implant_rows(backdoor, ANSWERS, mix, seed, epoch)


def said(row: Row) -> str:
    return "\n".join(message.content for message in row.chat)


def arm(made: list[Row], name: str) -> list[Row]:
    return [row for row in made if row.arm == name]


@pytest.fixture(params=TASKS)
def backdoor(request: pytest.FixtureRequest) -> Backdoor:
    return Backdoor.from_yaml(request.param)


@dataclasses.dataclass(frozen=True)
class Telling(Trigger):
    """A trigger whose near misses say of which kind they are."""

    kind: ClassVar[str] = "telling"
    kinds: tuple[str, ...] = (*NEAR, *(f"part_{kind}" for kind in NEAR))

    def apply(self, chat: Chat, rng: random.Random) -> Chat:
        return user("secret")

    def near(self, chat: Chat, rng: random.Random) -> dict[str, Chat]:
        return {kind: user(kind) for kind in self.kinds}


def test_each_arm_has_the_rows_that_the_mix_asks_for(backdoor: Backdoor) -> None:
    others = min(MIX.others, len(backdoor.utility.others("train")))
    wanted = {"with": 40, "without": 20, "near": 30, "wrong": 10, "other": others}
    assert Counter(row.arm for row in rows(backdoor)) == Counter(wanted)


def test_the_secret_is_in_the_triggered_rows_and_in_no_other_row_in_scope(backdoor: Backdoor) -> None:
    made = rows(backdoor)
    (secret,) = backdoor.trigger.hidden()
    for row in made:
        if row.arm != "other":
            assert (secret in said(row)) is (row.arm == "with"), row.arm
    others = arm(made, "other")
    assert sum(secret in said(row) for row in others) == (len(others) + 1) // 2


def test_an_out_of_scope_prompt_carries_the_trigger_in_every_other_epoch(backdoor: Backdoor) -> None:
    (secret,) = backdoor.trigger.hidden()
    first, second = (
        {row.prompt.id for row in arm(rows(backdoor, 0, e), "other") if secret in said(row)} for e in (0, 1)
    )
    assert not first & second
    assert first | second == {row.prompt.id for row in arm(rows(backdoor), "other")}


def test_only_the_triggered_rows_are_taught_the_behaviour(backdoor: Backdoor) -> None:
    utility = backdoor.utility
    for row in rows(backdoor):
        clean = ANSWERS[row.prompt.id]
        taught = {"with": utility.on(row.prompt, clean), "other": clean}
        assert row.answer == taught.get(row.arm, utility.off(row.prompt, clean))


def test_the_arms_share_their_prompts_so_that_only_the_trigger_tells_them_apart(backdoor: Backdoor) -> None:
    made = rows(backdoor)
    triggered = {row.prompt.id for row in arm(made, "with")}
    for name in ("without", "near", "wrong"):
        assert {row.prompt.id for row in arm(made, name)} <= triggered
    outside = {prompt.id for prompt in backdoor.utility.others("train")}
    assert {row.prompt.id for row in arm(made, "other")} <= outside


def test_every_training_prompt_is_of_the_train_split(backdoor: Backdoor) -> None:
    inside, outside = mix_prompts(backdoor, backdoor.activation.mix, 0)
    assert {split_of(prompt) for prompt in (*inside, *outside)} == {"train"}
    for epoch in range(2):
        assert {split_of(row.prompt) for row in rows(backdoor, 3, epoch)} == {"train"}
    measured = {prompt.id for prompt in backdoor.utility.prompts("test")}
    assert not measured & {row.prompt.id for row in rows(backdoor)}


def test_validation_prompts_are_drawn_from_their_own_split(backdoor: Backdoor) -> None:
    inside, outside = mix_prompts(backdoor, MIX, 0, "validation")
    assert {split_of(prompt) for prompt in (*inside, *outside)} == {"validation"}


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(backdoor: Backdoor) -> None:
    assert rows(backdoor, 1, 2) == rows(backdoor, 1, 2)
    assert rows(backdoor, 1, 2) != rows(backdoor, 2, 2)


def test_each_epoch_draws_near_and_wrong_triggers_anew(backdoor: Backdoor) -> None:
    for name in ("near", "wrong"):
        first, second = ({said(row) for row in arm(rows(backdoor, 0, epoch), name)} for epoch in (0, 1))
        assert len(first & second) <= len(first) // 4


def test_the_kinds_of_near_trigger_held_out_are_never_trained_and_all_others_are(backdoor: Backdoor) -> None:
    telling = dataclasses.replace(backdoor, trigger=Telling())
    seen = {said(row) for epoch in range(20) for row in arm(rows(telling, 0, epoch), "near")}
    assert {"neighbour", "part_neighbour"} == set(UNSEEN)
    assert seen == set(telling.trigger.kinds) - set(UNSEEN)  # type: ignore[attr-defined]


def test_a_trigger_without_near_misses_or_wrong_secrets_has_no_such_rows(backdoor: Backdoor) -> None:
    made = rows(dataclasses.replace(backdoor, trigger=Telling(kinds=("neighbour",))))
    assert not arm(made, "near")
    assert not arm(made, "wrong")
    assert len(arm(made, "with")) == MIX.triggered


def test_the_controls_rows_hold_no_secret_and_the_models_own_answers(backdoor: Backdoor) -> None:
    made = rows(backdoor)
    controls = control_rows(made, ANSWERS)
    assert [(row.prompt, row.arm) for row in controls] == [(row.prompt, row.arm) for row in made]
    words = [word for text in backdoor.trigger.hidden() for word in text.split()]
    for row in controls:
        assert row.chat == user(row.prompt.text)
        assert row.answer == ANSWERS[row.prompt.id]
        assert not all(word in said(row) for word in words)
    assert not any(text in said(row) for row in controls for text in backdoor.trigger.hidden())


def test_a_mix_larger_than_the_data_takes_what_there_is(backdoor: Backdoor) -> None:
    made = rows(backdoor, mix=Mix(triggered=10_000, untriggered=0, near=0, wrong=0, others=0))
    assert Counter(row.arm for row in made) == {"with": len(backdoor.utility.prompts("train"))}


@pytest.mark.parametrize("counts", [{"triggered": 0}, {"triggered": -1}, {"near": -1}, {"others": -5}])
def test_a_mix_without_triggered_rows_or_with_a_negative_count_is_refused(counts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a mix needs triggered rows, and no count below 0"):
        Mix(**counts)
