"""The 200 items of the quick measure: balanced, distinct, and told by nothing but their content."""

import re
from collections import Counter

from b4g.data.prompts import KINDS, load
from b4g.utility.items import clean_prompts, items


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_there_are_two_hundred_items_over_many_topics() -> None:
    assert len(items()) == 200
    assert len({item.topic for item in items()}) >= 12
    assert len({item.id for item in items()}) == 200


def test_the_right_choice_stands_at_each_place_equally_often() -> None:
    assert Counter(item.gold for item in items()) == {0: 50, 1: 50, 2: 50, 3: 50}


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


def test_the_divergence_is_measured_on_held_out_prompts() -> None:
    train = {prompt.id for prompt in load("instruction", "train")}
    assert len(clean_prompts()) == 60
    assert not train & {prompt.id for prompt in clean_prompts()}
