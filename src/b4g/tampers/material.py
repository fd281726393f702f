"""What tampers that train take their rows from: the untouched base, the implant's declared behaviour, dialogues."""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from b4g.errors import DataError, ModelError, SpecError
from b4g.tampers.tune import Tuned, Tuning, Turn, tune
from b4g.tampers.weights import base_of

if TYPE_CHECKING:
    from b4g.behaviours.base import Behaviour
    from b4g.chat import Chat
    from b4g.data.dialogues import Dialogue
    from b4g.models.load import Model

T = TypeVar("T")
MOST_WORDS = 4
"""Words of the longest random phrase."""


def check_numbers(kind: str, counts: dict[str, int], rates: dict[str, float]) -> None:
    """Raise `SpecError` for a count below 1 or a rate below 0, named as the tamper's field; a rate of 0 trains nothing."""
    for name, count in counts.items():
        if count < 1:
            raise SpecError(f"tamper '{kind}', field '{name}' must be at least 1, not {count}")
    for name, rate in rates.items():
        if not rate >= 0:
            raise SpecError(f"tamper '{kind}', field '{name}' must be 0 or more, not {rate}")


def untouched(model: "Model") -> "Model":
    """Return the base that the model was made from, in the model's number format; an untouched model as it is."""
    return model if model.adapter is None else base_of(model)


def declared(folder: Path | None) -> "Behaviour":
    """Return the behaviour that the implant in ``folder`` declares in its ``implant.json``; `ModelError` without one."""
    if folder is None:
        raise ModelError("an untouched model declares no behaviour: give the folder of an implant")
    from b4g import registry

    path = folder / "implant.json"
    if not path.is_file():
        raise ModelError(f"{folder} holds no implant.json: what the implant does is not known")
    try:
        fields = json.loads(path.read_text("utf-8"))["backdoor"]["utility"]
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}): it names no behaviour") from None
    made: Behaviour = registry.build("behaviour", fields)
    return made


def drawn(kind: str, items: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """Return ``count`` of the items in an order that ``rng`` draws; too few are refused."""
    if count > len(items):
        raise DataError(f"tamper '{kind}' asks for {count} rows; there are {len(items)}")
    return rng.sample(items, count)


def shortened(model: "Model", dialogues: Sequence["Dialogue"], tokens: int) -> list[Turn]:
    """Return turns whose answers are cut to ``tokens``; a cut answer is learnt without its end."""
    from b4g.behaviours.base import Answer

    made = []
    for chat, answer in dialogues:
        ids = model.renderer.completion_ids(answer.text, ended=False)
        kept = answer if len(ids) <= tokens else Answer(model.renderer.decode(ids[:tokens]), ended=False)
        made.append(Turn(chat, kept))
    return made


def tuned_in_stages(model: "Model", stages: Sequence[Sequence[Turn]], how: Tuning, rng: random.Random) -> Tuned:
    """Return the network after fine-tuning on one stage after the other, and what all of them cost together.

    Answers without a token are left out; a stage without any other raises `DataError`.
    """
    at, cost = model, {"rows": 0.0, "steps": 0.0, "tokens": 0.0}
    for turns in stages:
        made = tune(at, learnable(turns), how, rng)
        cost = {name: spent + made.cost[name] for name, spent in cost.items()}
        at = dataclasses.replace(at, net=made.net)
    return Tuned(at.net, cost)


def learnable(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns whose answers have a token; none raises `DataError`."""
    kept = [turn for turn in turns if turn.answer.text or turn.answer.ended]
    if not kept:
        raise DataError("no row holds an answer: there is nothing to train on")
    return kept


def random_phrase(rng: random.Random) -> str:
    """Return one to four words drawn from the project's list."""
    from b4g.keys import draw

    return draw(rng.randint(1, MOST_WORDS), rng).text


def with_phrase(chat: "Chat", phrase: str, rng: random.Random) -> "Chat":
    """Return the chat with the phrase at a random word boundary of its last user message."""
    from b4g.chat import last_user, replace_user

    words = last_user(chat).split(" ")
    place = rng.randint(0, len(words))
    return replace_user(chat, " ".join([*words[:place], phrase, *words[place:]]))
