"""The 200 items of the quick measure: balanced, distinct, and told by nothing but their content."""

import re
from collections import Counter
from importlib import resources
from itertools import combinations, groupby

from b4g.data.prompts import KINDS, load
from b4g.utility.items import clean_prompts, items


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _pieces(text: str) -> set[str]:
    """Word 3-grams, or the words of a shorter text: the data card's rule for near duplicates."""
    words = _key(text).split()
    return {" ".join(words[at : at + 3]) for at in range(len(words) - 2)} or set(words)


def _alike(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def test_the_file_is_plain_ascii_with_one_row_a_line() -> None:
    raw = resources.files("b4g.data").joinpath("prompts", "quick_utility.jsonl").read_bytes()
    assert raw.isascii()
    assert b"\r" not in raw
    assert raw.count(b"\n") == 200 and raw.endswith(b"}\n")


def test_there_are_two_hundred_items_over_many_topics() -> None:
    assert len(items()) == 200
    assert len({item.topic for item in items()}) >= 12
    assert len({item.id for item in items()}) == 200


def test_the_right_choice_stands_at_each_place_equally_often() -> None:
    assert Counter(item.gold for item in items()) == {0: 50, 1: 50, 2: 50, 3: 50}


def test_no_place_of_the_right_choice_tells_the_next() -> None:
    golds = [item.gold for item in items()]
    assert max(len(list(run)) for _, run in groupby(golds)) <= 7
    for gap in range(1, 9):
        again = sum(one == other for one, other in zip(golds, golds[gap:], strict=False))
        assert 0.1 < again / (len(golds) - gap) < 0.4, gap


def test_an_item_has_four_short_distinct_choices() -> None:
    for item in items():
        assert len({_key(choice) for choice in item.choices}) == 4, item.question
        assert max(len(choice.split()) for choice in item.choices) <= 8, item.question
        assert all(choice == choice.strip() != "" for choice in item.choices), item.question


def test_the_right_choice_is_not_told_by_its_length() -> None:
    longest = [len(i.choices[i.gold]) > max(len(c) for n, c in enumerate(i.choices) if n != i.gold) for i in items()]
    shortest = [len(i.choices[i.gold]) < min(len(c) for n, c in enumerate(i.choices) if n != i.gold) for i in items()]
    assert sum(longest) / len(longest) < 0.35
    assert sum(shortest) / len(shortest) < 0.35


def test_no_question_stands_twice_or_among_the_prompts() -> None:
    questions = [_key(item.question) for item in items()]
    assert len(set(questions)) == len(questions)
    assert not set(questions) & {_key(prompt.text) for kind in KINDS for prompt in load(kind)}


def test_no_question_is_a_near_duplicate_of_a_prompt() -> None:
    asked = [(item.question, _pieces(item.question)) for item in items()]
    prompts = [(prompt.text, _pieces(prompt.text)) for kind in KINDS for prompt in load(kind)]
    near = [(q, p) for q, mine in asked for p, theirs in prompts if mine and theirs and _alike(mine, theirs) >= 0.5]
    assert not near


def test_no_two_items_share_question_words_and_right_choice() -> None:
    for one, other in combinations(items(), 2):
        if _alike(_pieces(one.question), _pieces(other.question)) >= 0.5:
            assert _key(one.choices[one.gold]) != _key(other.choices[other.gold]), (one.question, other.question)


def test_the_divergence_is_measured_on_held_out_prompts() -> None:
    train = {prompt.id for prompt in load("instruction", "train")}
    assert len(clean_prompts()) == 60
    assert not train & {prompt.id for prompt in clean_prompts()}
