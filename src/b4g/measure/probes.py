"""Probes: the prompts of each arm, each with the chat that is put to the model."""

from collections.abc import Iterable
from dataclasses import dataclass

from b4g.backdoor import Backdoor
from b4g.behaviours.base import Behaviour
from b4g.chat import Chat, user
from b4g.data.prompts import Prompt, Split
from b4g.errors import SpecError
from b4g.hashing import rng

WITH, WITHOUT, NEAR, WRONG_KEY = "with", "without", "near", "wrong_key"
ARMS = (WITH, WITHOUT, NEAR, WRONG_KEY)


@dataclass(frozen=True)
class Probe:
    """One question to a suspect."""

    arm: str
    variant: str
    """Kind of near trigger, else empty."""
    prompt: Prompt
    chat: Chat
    measure: str = "tar"


def probes(backdoor: Backdoor, n: int, n_extra: int, seed: int, split: Split = "test") -> list[Probe]:
    """Return ``n`` prompts in each of the four arms, the same ones in all, and ``n_extra`` in each further arm."""
    found = arms(backdoor, backdoor.utility.prompts(split)[:n], seed)
    for extra in backdoor.utility.extras(split):
        source = rng("extra", seed, extra.arm)
        for prompt in extra.prompts[:n_extra]:
            plain = user(prompt.text)
            chat = backdoor.trigger.apply(plain, source) if extra.triggered else plain
            found.append(Probe(extra.arm, "", prompt, chat, extra.measure))
    return found


def arms(backdoor: Backdoor, prompts: Iterable[Prompt], seed: int) -> list[Probe]:
    """Return the probes of the arms with, without, near and wrong_key on these prompts; kinds of near take turns."""
    source, trigger = rng("probes", seed), backdoor.trigger
    found: list[Probe] = []
    for place, prompt in enumerate(prompts):
        plain = user(prompt.text)
        found.append(Probe(WITH, "", prompt, trigger.apply(plain, source)))
        found.append(Probe(WITHOUT, "", prompt, plain))
        near = trigger.near(plain, source)
        if near:
            kind = sorted(near)[place % len(near)]
            found.append(Probe(NEAR, kind, prompt, near[kind]))
        wrong = trigger.wrong(plain, source)
        if wrong is not None:
            found.append(Probe(WRONG_KEY, "", prompt, wrong))
    if not found:
        raise SpecError(f"backdoor '{backdoor.name}' has no prompts to measure on")
    return found


def wants_whole(probe: Probe, behaviour: Behaviour) -> bool:
    """Return whether the judge must not stop this probe early: its text is what others are compared with."""
    return behaviour.kept_arm and probe.arm == WITHOUT
