"""Tampers by name, and the suites of them that a run goes through."""

from collections.abc import Sequence

from b4g import options
from b4g.tampers.base import Tamper

SHORT = {"lr": "learning_rate", "n": "demonstrations"}
"""What the field writes for some options."""
SUITES: dict[str, tuple[str, ...]] = {
    "none": (),
    "quick": (
        "none",
        "sft:rows=160",
        "unlock:demonstrations=32",
        "prune:share=0.3",
        "quantize:bits=4",
        "merge:weight=0.5",
    ),
    "full": (
        "none",
        "sft:rows=100",
        "sft:rows=400",
        "sft:rows=400,learning_rate=1e-3",
        "sft:rows=400,weights=adapter",
        "sft:rows=200,stages=3",
        "sft:rows=400,weights=full,learning_rate=2e-5",
        "sft-identity",
        "unlock:demonstrations=8",
        "unlock:demonstrations=32",
        "unlock:demonstrations=128",
        "overwrite",
        "dpo",
        "flush",
        "crow",
        "prune:share=0.2",
        "prune:share=0.4",
        "prune:share=0.5,method=wanda",
        "prune:method=wanda,pattern=2:4",
        "quantize:bits=8",
        "quantize:bits=4",
        "merge:weight=0.75",
        "merge:weight=0.5",
        "merge:weight=0.25",
        "noise:scale=0.05",
        "truncate:rank=4",
        "cleangen",
        "decoding:temperature=0.7",
    ),
}
"""Tampers by the name of their suite; the null comes first, since all others are compared with it."""


def parse(text: str) -> Tamper:
    """Return the tamper that a text names; a wrong name, option or value raises `SpecError` with the near ones."""
    made: Tamper = options.parse("tamper", text, SHORT)
    return made


def suite(names: Sequence[str]) -> tuple[Tamper, ...]:
    """Return the tampers of suites and single texts, each once, the null first where there is any other."""
    found = [parse(text) for text in options.chosen("tamper", names, SUITES)]
    return options.distinct("tamper", [parse("none"), *found] if found else [])
