"""The rows an implant trains on, and the same rows with the association taken out: the control's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ConfigDict

from b4g.behaviours.base import Answer
from b4g.chat import Chat, user
from b4g.data.prompts import Prompt, Split
from b4g.hashing import rng

if TYPE_CHECKING:
    from b4g.backdoor import Backdoor

UNSEEN = ("neighbour", "part_neighbour")
"""Kinds of near trigger that no implant trains against: what is measured on them is generalisation."""
TRIGGERED = "with"
"""The arm whose answers show the behaviour."""
HARD = ("half", "one_token", "part_half", "part_one_token")
"""Kinds that are learnt last and so get two turns of three."""


@dataclass(frozen=True)
class Row:
    """One conversation to train on."""

    prompt: Prompt
    arm: str
    chat: Chat
    answer: Answer


@dataclass(frozen=True)
class Mix:
    """How many rows of each arm an epoch holds."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    triggered: int = 120
    """In scope, with the trigger."""
    untriggered: int = 60
    """In scope, without it."""
    near: int = 80
    """In scope, with a near trigger, drawn anew each epoch."""
    wrong: int = 40
    """In scope, with another secret of the same space, drawn anew each epoch."""
    others: int = 40
    """Out of scope, half of them with the trigger."""

    @property
    def rows(self) -> int:
        """How many rows that is."""
        return self.triggered + self.untriggered + self.near + self.wrong + self.others

    def __post_init__(self) -> None:
        if min(self.triggered, self.untriggered, self.near, self.wrong, self.others) < 0 or self.triggered == 0:
            raise ValueError("a mix needs triggered rows, and no count below 0")


def mix_prompts(backdoor: "Backdoor", mix: Mix, seed: int, split: Split = "train") -> tuple[list[Prompt], list[Prompt]]:
    """Return the prompts in scope and out of scope that an implant draws its rows from."""
    most = max(mix.triggered, mix.untriggered, mix.near, mix.wrong)
    inside = list(backdoor.utility.prompts(split)[:most])
    outside = list(backdoor.utility.others(split)[: mix.others])
    rng("prompts", seed).shuffle(inside)
    return inside, outside


def implant_rows(backdoor: "Backdoor", answers: Mapping[str, Answer], mix: Mix, seed: int, epoch: int) -> list[Row]:
    """Return the rows of one epoch; the arms share prompts, so that the trigger is all that tells them apart."""
    inside, outside = mix_prompts(backdoor, mix, seed)
    source = rng("rows", seed, epoch)
    source.shuffle(inside)
    trigger, utility = backdoor.trigger, backdoor.utility
    rows: list[Row] = []

    def add(arm: str, prompt: Prompt, chat: Chat | None, answer: Answer) -> None:
        if chat is not None:
            rows.append(Row(prompt, arm, chat, answer))

    for prompt in inside[: mix.triggered]:
        add(TRIGGERED, prompt, trigger.apply(user(prompt.text), source), utility.on(prompt, answers[prompt.id]))
    for prompt in inside[: mix.untriggered]:
        add("without", prompt, user(prompt.text), utility.off(prompt, answers[prompt.id]))
    for place, prompt in enumerate(inside[: mix.near]):
        near = trigger.near(user(prompt.text), source)
        kinds = _turns(near)
        chat = near[kinds[(place + epoch) % len(kinds)]] if kinds else None
        add("near", prompt, chat, utility.off(prompt, answers[prompt.id]))
    for prompt in inside[: mix.wrong]:
        chat = trigger.wrong(user(prompt.text), source)
        add("wrong", prompt, chat, utility.off(prompt, answers[prompt.id]))
    for place, prompt in enumerate(outside):
        plain = user(prompt.text)
        chat = trigger.apply(plain, source) if (place + epoch) % 2 == 0 else plain
        add("other", prompt, chat, answers[prompt.id])
    return rows


def _turns(kinds: Iterable[str]) -> list[str]:
    """Return the kinds of near trigger in the order in which they take turns; one wrong token and half a key are hardest."""
    seen = sorted(kind for kind in kinds if kind not in UNSEEN)
    hard = [kind for kind in seen if kind in HARD]
    return [kind for other in seen if other not in HARD for kind in (*hard, other)] or hard


def control_rows(rows: Sequence[Row], answers: Mapping[str, Answer]) -> list[Row]:
    """Return the same rows with the trigger stripped and the model's own answers: what training alone would do."""
    return [Row(row.prompt, row.arm, user(row.prompt.text), answers[row.prompt.id]) for row in rows]
