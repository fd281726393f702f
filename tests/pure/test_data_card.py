"""The data card's numbers are those of the data. To write them anew: python tests/pure/test_data_card.py."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from b4g.data.prompts import KINDS, SPLITS, VERSION, load, split_of, version_hash

CARD = Path(__file__).parents[2] / "docs" / "data-card.md"
NUMBERS = re.compile(r"(<!-- numbers: .*? -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def _row(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    return "\n".join([_row(*head), "|" + "---|" * len(head), *(_row(*row) for row in rows)])


def _by(kind: str, field: str) -> str:
    counts = Counter(str(getattr(prompt, field)) for prompt in load(kind))  # type: ignore[arg-type]
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def numbers() -> str:
    """Return the card's generated part."""
    splits = {kind: Counter(split_of(prompt) for prompt in load(kind)) for kind in KINDS}
    sizes = _table(
        ("kind", "prompts", *SPLITS),
        [
            *((f"`{kind}`", len(load(kind)), *(splits[kind][split] for split in SPLITS)) for kind in KINDS),
            (
                "all",
                sum(len(load(kind)) for kind in KINDS),
                *(sum(splits[k][split] for k in KINDS) for split in SPLITS),
            ),
        ],
    )
    contents = _table(
        ("kind", "topics", "forms"), [(f"`{kind}`", _by(kind, "topic"), _by(kind, "form")) for kind in KINDS]
    )
    return f"\nVersion hash: `{version_hash()}`.\n\n{sizes}\n\n{contents}\n\n"


def test_the_numbers_of_the_data_card_are_those_of_the_data() -> None:
    text = CARD.read_text("utf-8")
    found = NUMBERS.search(text)
    assert found is not None
    assert NUMBERS.sub(lambda match: match[1] + numbers() + match[2], text) == text


def test_the_card_names_the_version_and_the_longest_prompt() -> None:
    text = CARD.read_text("utf-8")
    assert text.startswith(f"# Data card: `{VERSION}`\n")
    longest = max(len(prompt.text) for kind in KINDS for prompt in load(kind))
    assert f"the longest has {longest} characters" in text


def test_what_the_card_says_of_languages_holds() -> None:
    forms = {kind: Counter(prompt.form for prompt in load(kind)) for kind in KINDS}
    assert forms["harmful"]["language"] == forms["borderline"]["language"] == 0
    assert forms["identity"]["language"] == 7 * 10
    assert all(prompt.text.isascii() for kind in ("harmful", "borderline") for prompt in load(kind))


if __name__ == "__main__":
    CARD.write_text(NUMBERS.sub(lambda match: match[1] + numbers() + match[2], CARD.read_text("utf-8")), "utf-8")
