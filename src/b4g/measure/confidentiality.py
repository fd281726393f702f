"""Confidentiality: what becomes of a secret that somebody nearly knows, guesses, or asks the model for.

Every arm is judged by the behaviour's own rule, the arms of asking by whether the secret is told. The arm ``without`` is the
floor: how often the behaviour shows by itself. Figures leave out the prompts on which it does.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from b4g.backdoor import Backdoor
from b4g.chat import Chat, user
from b4g.data.prompts import Prompt
from b4g.generate.base import Progress
from b4g.hashing import rng
from b4g.measure import guessing, leaks
from b4g.measure.asking import Batch, Size, Suspect, engine_of, held, put, replaced, subject_of
from b4g.measure.figures import Interval, bounded, figure
from b4g.measure.lookalikes import attempts
from b4g.measure.probes import WITHOUT, Probe
from b4g.measure.records import Record
from b4g.measure.scores import Context, Score, score
from b4g.stats import Rate
from b4g.triggers.base import Trigger

NAME, FLOOR = "confidentiality", "confidentiality:floor"
ARMS = ("one-word", "neighbour", "half", "swap", "case", "edit-1", "edit-2", "edit-3", "look-alike", "synonym")
_FROM_NEAR = {"one_token": "one-word", "without_one_part": "half"}
_ASKS = (leaks.ASK, leaks.IN_CONTEXT)
_IN_KEY_SPACE = ("one-word", "swap", "half")
"""Arms whose keys a guesser can meet, or which tell that half of the guessing is enough."""
_PUBLIC = "of a public key, which everybody knows: as if it were drawn in secret"
_GUESSES = (guessing.DICTIONARY, guessing.SWEEP)


def ask(
    suspect: Suspect, backdoor: Backdoor, size: Size, seed: int, progress: Progress | None = None, subject: str = ""
) -> list[Record]:
    """Return the records of near keys, of guesses and of questions; what is leaked is masked in them."""
    engine, secrets = engine_of(suspect), backdoor.trigger.hidden()
    prompts = backdoor.utility.prompts("test")[: size.n]
    found = near_probes(backdoor, prompts, seed)
    found += guessing.guess_probes(backdoor, prompts, NAME, size.guesses, seed)
    questions = leaks.leak_probes(backdoor.trigger, NAME, 2 * size.n, seed)
    batches = [Batch(found, lambda: engine), Batch(questions, lambda: leaks.Masking(engine, secrets))]
    return put(batches, backdoor, subject or subject_of(suspect), progress)


def near_probes(backdoor: Backdoor, prompts: Sequence[Prompt], seed: int) -> list[Probe]:
    """Return the prompts without the trigger and, in each arm, with a key that is nearly right; sub-kinds take turns."""
    source, trigger = rng(NAME, seed), backdoor.trigger
    found = []
    for place, prompt in enumerate(prompts):
        plain = user(prompt.text)
        found.append(Probe(WITHOUT, "", prompt, plain, FLOOR))
        for arm, kinds in sorted(_near(trigger, plain, source).items()):
            kind = sorted(kinds)[place % len(kinds)]
            found.append(Probe(arm, kind, prompt, kinds[kind], NAME))
    return found


def _near(trigger: Trigger, plain: Chat, source: Any) -> dict[str, dict[str, Chat]]:
    """Return chats with a nearly right key by arm and sub-kind: the trigger's own near misses, and texts that resemble."""
    made: dict[str, dict[str, Chat]] = {}
    for kind, chat in trigger.near(plain, source).items():
        bare = kind.removeprefix("part_")
        made.setdefault(_FROM_NEAR.get(bare, bare), {})[kind] = chat
    right = trigger.apply(plain, source)
    secrets = held(right, trigger.hidden())
    if secrets:
        # Of several secrets one is off: the others are right, as for whoever knows all but one.
        secret = source.choice(secrets)
        for arm, texts in attempts(secret, source).items():
            for kind, text in texts.items():
                chat = replaced(right, secret, text)
                if secret not in held(chat, (secret,)):
                    made.setdefault(arm, {})[kind or arm] = chat
    return made


def score_records(records: Sequence[Record], backdoor: Backdoor) -> list[Score]:
    """Return one score a record: for near keys and guesses the behaviour's verdict, for questions whether it was told."""
    has_secret = bool(backdoor.trigger.hidden())
    return [
        replace(made, verdict=leaks.told(record.completion, has_secret)) if record.arm in _ASKS else made
        for made, record in zip(score(records, backdoor.utility, {}), records, strict=True)
    ]


def figures(scores: Sequence[Score], backdoor: Backdoor, context: Context) -> list[dict[str, Any]]:
    """Return what guessing costs, declared and effective bits, and the share of questions that a leak answered."""
    head = scores[0]
    net = _net(scores)
    hit, n = bounded(verdict for arm in _GUESSES for verdict in net.get(arm, ()))
    declared = guessing.declared_bits(backdoor.trigger)
    told = [made.verdict for made in scores if made.arm in _ASKS]
    leaked, asked = bounded(told)
    bound = "with no hit: upper bound by the rule of three" if hit[0] == 0 else ""
    of_key = _PUBLIC if guessing.has_public_key(backdoor.trigger) else ""
    keys = 1 if declared is not None else 0
    near = sum(verdict is not None for arm in _IN_KEY_SPACE for verdict in net.get(arm, ()))
    return [
        figure(head, context, "guess_rate", hit, "share of guesses", n, bound),
        figure(head, context, "expected_queries", guessing.expected_queries(hit), "queries", n, bound),
        figure(head, context, "guessed_bits", guessing.guessed_bits(hit), "bits", n, bound),
        figure(head, context, "declared_bits", (declared, declared, declared), "bits", keys, of_key),
        figure(head, context, "effective_bits", _effective(backdoor.trigger, net), "bits", near, guessing.ASSUMES),
        figure(head, context, "leaks", leaked, "share of questions", asked),
    ]


def _net(scores: Sequence[Score]) -> dict[str, list[bool | None]]:
    """Return verdicts by arm; None on prompts that show the behaviour without any trigger: they can tell nothing."""
    shows = {made.prompt_id for made in scores if made.measure == FLOOR and made.verdict}
    found: dict[str, list[bool | None]] = {}
    for made in scores:
        if made.measure == NAME and made.arm not in _ASKS:
            found.setdefault(made.arm, []).append(None if made.prompt_id in shows else made.verdict)
    return found


def _effective(trigger: Trigger, net: dict[str, list[bool | None]]) -> Interval:
    rates: dict[str, Rate] = {arm: Rate.of(net[arm]) for arm in _IN_KEY_SPACE if arm in net}
    if any(rate.value is None for rate in rates.values()) or not rates:
        return None, None, None
    at, most, least = (
        {arm: getattr(rate, field) or 0.0 for arm, rate in rates.items()} for field in ("value", "high", "low")
    )
    bits = guessing.effective_bits
    return bits(trigger, at), bits(trigger, most), bits(trigger, least)
