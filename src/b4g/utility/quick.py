"""Quick utility: 200 fixed multiple-choice items and the divergence on ordinary chat, in under a minute a model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from b4g.chat import user
from b4g.data.clean import clean_answers
from b4g.data.prompts import load
from b4g.generate.base import Progress
from b4g.generate.local import LocalGenerator
from b4g.stats import Rate, paired
from b4g.utility.divergence import Divergence, Sums, Text, divergence, measure_texts
from b4g.utility.items import MEASURE, TEXTS, Item, clean_prompts
from b4g.utility.subjects import BASE, Likelihood, Pair, Subjects
from b4g.utility.verdict import MARGIN, Kept, compared, kept

ARM = "quick"


class Graded(NamedTuple):
    """Whether a subject's likeliest choice of an item is the right one; None where it could not be scored."""

    subject: str
    item: str
    correct: bool | None


class Read(NamedTuple):
    """What one text gave for one subject."""

    subject: str
    text: str
    sums: Sums


def grade(subjects: Subjects, chosen: Sequence[Item], progress: Progress | None = None) -> list[Graded]:
    """Return for each item and subject whether the right choice has the highest log-likelihood a character.

    The question is the user's message in the model's own chat template, the choice its answer. An item that is longer
    than the context is not scored. Normalised by the length in bytes, as ``acc_norm`` of lm-evaluation-harness.
    """
    pairs: list[Pair] = []
    spans: list[range | None] = []
    for item in chosen:
        context = subjects.renderer.prompt_ids(user(item.question))
        own = [Pair(context, subjects.renderer.completion_ids(choice, ended=False)) for choice in item.choices]
        fits = max(len(pair.context) + len(pair.continuation) for pair in own) <= subjects.max_tokens
        spans.append(range(len(pairs), len(pairs) + len(own)) if fits else None)
        pairs += own if fits else []
    found = subjects.loglikelihoods(pairs, progress)
    return [
        Graded(name, item.id, _correct(item, [found[name][place] for place in span]) if span else None)
        for item, span in zip(chosen, spans, strict=True)
        for name in subjects.names
    ]


def _correct(item: Item, found: Sequence[Likelihood]) -> bool:
    scores = [one.logprob / len(choice.encode()) for one, choice in zip(found, item.choices, strict=True)]
    return scores.index(max(scores)) == item.gold


def read_clean(subjects: Subjects, texts: int = TEXTS, progress: Progress | None = None) -> list[Read]:
    """Return each subject's divergence from the base on the base's own answers to held-out clean prompts."""
    prompts = clean_prompts()[:texts]
    with subjects.only(BASE) as base:
        answers = clean_answers(prompts, LocalGenerator(base))
    asked = []
    for prompt in prompts:
        head = subjects.renderer.prompt_ids(user(prompt.text))
        answer = answers[prompt.id]
        asked.append(Text(head + subjects.renderer.completion_ids(answer.text, answer.ended), len(head)))
    return _read(subjects, [prompt.id for prompt in prompts], asked, progress)


def read_plain(subjects: Subjects, texts: int | None = None, progress: Progress | None = None) -> list[Read]:
    """Return each subject's surprise at held-out text outside any chat: what is left of it as a language model.

    The text is that of the project's validation prompts, which nothing is trained on. No template, and no answer of
    the base's own, at which any change of the model looks large.
    """
    prompts = load("instruction", "validation")[:texts]
    asked = [Text(subjects.tokenizer(prompt.text)["input_ids"][: subjects.max_tokens], 1) for prompt in prompts]
    return _read(subjects, [prompt.id for prompt in prompts], asked, progress)


def _read(subjects: Subjects, ids: Sequence[str], texts: Sequence[Text], progress: Progress | None) -> list[Read]:
    found = measure_texts(subjects, texts, progress)
    return [Read(name, id_, sums) for name, own in found.items() for id_, sums in zip(ids, own, strict=True)]


def accuracies(graded: Sequence[Graded], subject: str) -> list[bool | None]:
    """Return a subject's outcomes in the order of the items."""
    return [one.correct for one in graded if one.subject == subject]


def rate_rows(graded: Sequence[Graded], head: Mapping[str, Any], arm: str = ARM) -> list[dict[str, Any]]:
    """Return one row of accuracy a subject, as in `summary.json`."""
    names = dict.fromkeys(one.subject for one in graded)
    return [
        {**head, "subject": name, "measure": MEASURE, "arm": arm, **asdict(Rate.of(accuracies(graded, name)))}
        for name in names
    ]


def kept_rows(graded: Sequence[Graded], head: Mapping[str, Any], margin: float = MARGIN) -> list[dict[str, Any]]:
    """Return the verdict of each subject against the base, and of the implant against the control, a row each."""
    rows = []
    for before, after in compared(list(dict.fromkeys(one.subject for one in graded))):
        found: Kept = kept(accuracies(graded, before), accuracies(graded, after), margin)
        rows.append({**head, "before": before, "after": after, **asdict(found)})
    return rows


def difference_rows(graded: Sequence[Graded], task: str, arm: str = ARM) -> list[dict[str, Any]]:
    """Return the paired differences of accuracy as `summary.json` has them for the other measures."""
    names = {one.subject for one in graded}
    rows = []
    for before in ("base", "control"):
        if {before, "implant"} <= names:
            found = paired(accuracies(graded, before), accuracies(graded, "implant"))
            rows.append(
                {"task": task, "arm": arm, "measure": MEASURE, "before": before, "after": "implant", **asdict(found)}
            )
    return rows


def divergence_rows(read: Sequence[Read], head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row of divergence a subject."""
    rows = []
    for name in dict.fromkeys(one.subject for one in read):
        found: Divergence | None = divergence(name, (one.sums for one in read if one.subject == name))
        if found:
            rows.append({**head, **asdict(found)})
    return rows
