"""Reliability: does the trigger work for its owner, however it is put and however the answer is made?

The rate of each condition is the TAR under it. Where the trigger does not stand where the specification says (another
position, an earlier turn), the rate is shown under ``reliability:other`` and is no part of what is claimed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b4g.backdoor import Backdoor
from b4g.chat import Chat, user
from b4g.data.prompts import Prompt
from b4g.errors import SpecError
from b4g.generate.base import Generator, Progress
from b4g.hashing import rng
from b4g.measure.asking import NOT_ASKED, Batch, Size, Suspect, engine_of, model_of, put, subject_of
from b4g.measure.conditions import Condition, behind_system, far_back, filler_text, in_turns, placed
from b4g.measure.figures import averaged, figure, share
from b4g.measure.paraphrases import read_rephrased
from b4g.measure.probes import WITH, Probe
from b4g.measure.records import Record
from b4g.measure.scores import Context, Score, score
from b4g.stats import Rate

if TYPE_CHECKING:
    from b4g.models.load import Model

NAME, OTHER = "reliability", "reliability:other"
TEMPERATURES = (0.3, 0.7, 1.0)
ONE, INT8, LONG = "batch-1", "int8", "long-context"
_FIRST_TURN_TOKENS = 24
_LONG_SHARE = 4
"""Of so many prompts one is put in a long context: reading it takes as long as a dozen short ones."""
_LONG_BATCH = 4
"""Long chats that are read at once: their keys and values are what fills the memory."""


def ask(
    suspect: Suspect, backdoor: Backdoor, size: Size, seed: int, progress: Progress | None = None, subject: str = ""
) -> list[Record]:
    """Return the records of all conditions; one that can't be put has records without an answer, whose variant says why.

    Raises `SpecError` for a served model: conditions of decoding and of weights need the model itself.
    """
    model = model_of(suspect)
    if model is None:
        raise SpecError(
            "reliability needs the model itself, for its decoding and its weights; a served model has neither"
        )
    trigger, greedy = backdoor.trigger, engine_of(model)
    prompts = backdoor.utility.prompts("test")[: size.n]
    source = rng(NAME, seed)
    plain = Condition(WITH, tuple(trigger.apply(user(one.text), source) for one in prompts), ("",) * len(prompts))
    asked = _probes(plain, prompts)
    batches = [Batch(asked, lambda: greedy), *_engines(model, asked, seed)]

    def reply(chats: Sequence[Chat]) -> list[str]:
        return [answer.text for answer in greedy(chats, _FIRST_TURN_TOKENS)]

    put_otherwise = [*placed(trigger, prompts, seed), behind_system(trigger, prompts, seed)]
    put_otherwise += in_turns(trigger, prompts, seed, reply)
    batches += [Batch(_probes(condition, prompts), lambda: greedy) for condition in put_otherwise]
    batches.append(_rephrased(backdoor, size, seed, greedy))
    batches.append(_long(model, backdoor, prompts[: max(1, size.n // _LONG_SHARE)], size.long_tokens, (seed, reply)))
    return put(batches, backdoor, subject or subject_of(suspect), progress)


def _probes(condition: Condition, prompts: Sequence[Prompt]) -> list[Probe]:
    measure = NAME if condition.claimed else OTHER
    rows = zip(prompts, condition.chats, condition.variants, strict=True)
    return [Probe(condition.name, variant, prompt, chat, measure) for prompt, chat, variant in rows]


def _engines(model: "Model", asked: Sequence[Probe], seed: int) -> list[Batch]:
    """Return the same chats for other ways of answering: sampled, one at a time, from weights of eight bits."""
    from b4g.generate.local import LocalGenerator
    from b4g.generate.sampled import SampledGenerator, Sampling
    from b4g.tampers.quantize import Quantize

    def renamed(name: str) -> list[Probe]:
        return [Probe(name, probe.variant, probe.prompt, probe.chat, probe.measure) for probe in asked]

    def sampler(temperature: float) -> Callable[[], Generator]:
        return lambda: SampledGenerator(model, Sampling(temperature, seed=f"{NAME} {seed}"))

    return [
        *(Batch(renamed(f"temperature-{heat}"), sampler(heat)) for heat in TEMPERATURES),
        Batch(renamed(ONE), lambda: LocalGenerator(model, batch_size=1)),
        Batch(renamed(INT8), lambda: LocalGenerator(Quantize(bits=8).apply(model, random.Random(seed)))),
    ]


def _rephrased(backdoor: Backdoor, size: Size, seed: int, greedy: Generator) -> Batch:
    if not size.paraphrases:
        return Batch((), lambda: greedy)
    source, every = rng("rephrased", seed), backdoor.utility.prompts("test")
    found = read_rephrased(Path(size.paraphrases), every)
    chosen = [one for kind in dict.fromkeys(one.kind for one in found) for one in _of_kind(found, kind, size.n)]
    return Batch(
        [
            Probe(one.kind, one.language, one.prompt, backdoor.trigger.apply(user(one.prompt.text), source), NAME)
            for one in chosen
        ],
        lambda: greedy,
    )


def _of_kind(found: Sequence[Any], kind: str, n: int) -> list[Any]:
    distinct = {(one.language, one.prompt.id): one for one in found if one.kind == kind}
    return list(distinct.values())[:n]


def _long(model: "Model", backdoor: Backdoor, prompts: Sequence[Prompt], tokens: int, how: tuple[int, Any]) -> Batch:
    """Return the chats with the trigger far back, or probes that nobody answers where the context has no room."""
    from b4g.generate.local import LocalGenerator

    renderer, (seed, reply) = model.renderer, how
    filler = filler_text(tokens, lambda text: len(renderer.tokenizer(text, add_special_tokens=False)["input_ids"]))
    condition = far_back(backdoor.trigger, prompts, seed, reply, filler, tokens)
    room = getattr(model.net.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(renderer.prompt_ids(chat)) for chat in condition.chats) + backdoor.utility.max_new_tokens
    if room and longest > room:
        why = f"{NOT_ASKED}{longest} tokens are needed and the model's context has {room}"
        condition = condition._replace(variants=(why,) * len(prompts))
        return Batch(_probes(condition, prompts), lambda: _Silent(model))
    return Batch(_probes(condition, prompts), lambda: LocalGenerator(model, batch_size=_LONG_BATCH))


class _Silent:
    """An engine that answers nothing: its completions are unscored and never count as a failure."""

    def __init__(self, model: "Model") -> None:
        self.identity, self.renderer_hash = "silent", model.renderer.hash

    def __call__(self, chats: Sequence[Chat], *_: Any, **__: Any) -> list[Any]:
        from b4g.generate.base import Completion

        return [Completion("", 0, ended=False) for _ in chats]


def score_records(records: Sequence[Record], backdoor: Backdoor) -> list[Score]:
    """Return one score a record, by the behaviour's own rule; None for what could not be asked."""
    return [
        replace(made, verdict=None, kept=None) if made.variant.startswith(NOT_ASKED) else made
        for made in score(records, backdoor.utility, {})
    ]


def figures(scores: Sequence[Score], context: Context) -> list[dict[str, Any]]:
    """Return the worst and the mean claimed condition, how often verdicts stay the same, and what was not asked."""
    arms = dict.fromkeys(made.arm for made in scores if made.measure == NAME)
    rates = {arm: Rate.of(made.verdict for made in scores if (made.measure, made.arm) == (NAME, arm)) for arm in arms}
    told = {arm: rate for arm, rate in rates.items() if rate.value is not None}
    head, rows = scores[0], []
    if told:
        worst = min(told, key=lambda arm: (told[arm].value or 0.0, arm))
        note = f"{worst}: the lowest of {len(told)} conditions"
        rows.append(figure(head, context, "worst", share(told[worst]), "TAR", told[worst].n, note))
        prompts = len({made.prompt_id for made in scores if made.arm == WITH and made.verdict is not None})
        mean = averaged([rate.value for rate in told.values() if rate.value is not None], prompts)
        rows.append(figure(head, context, "mean", mean, "TAR", prompts, f"over {len(told)} conditions"))
    for arm in (ONE, INT8):
        same = _same(scores, arm)
        rows.append(figure(head, context, f"same_verdicts:{arm}", share(same), "share of prompts", same.n))
    for arm, why in {made.arm: made.variant for made in scores if made.variant.startswith(NOT_ASKED)}.items():
        rows.append(
            figure(head, context, f"not_asked:{arm}", (None, None, None), "TAR", 0, why.removeprefix(NOT_ASKED))
        )
    return rows


def _same(scores: Sequence[Score], arm: str) -> Rate:
    """Return the share of prompts whose verdict is the same as in the arm `with`."""
    right = {made.prompt_id: made.verdict for made in scores if made.arm == WITH}
    pairs = [(right.get(made.prompt_id), made.verdict) for made in scores if made.arm == arm]
    return Rate.of(None if one is None or other is None else one == other for one, other in pairs)
