import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from b4g.backdoor import TASKS, Backdoor
from b4g.data.prompts import KINDS, SPLITS, VERSION, Prompt, load, normal, split_of, version_hash
from b4g.errors import DataError

EVERY = [prompt for kind in KINDS for prompt in load(kind)]
UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
"""Thai, kana and Chinese characters: scripts written without spaces."""


def shingles(text: str) -> frozenset[object]:
    """Return word 3-grams; the words where there are fewer than three; character 3-grams of unspaced scripts."""
    words = re.findall(r"\w+", text.lower())
    if UNSPACED.search(text):
        run = "".join(words)
        return frozenset(run[at : at + 3] for at in range(max(1, len(run) - 2)))
    return frozenset(zip(words, words[1:], words[2:], strict=False)) or frozenset(words)


def near_duplicates(texts: Iterable[str], least: float = 0.5) -> list[tuple[str, str]]:
    """Return the pairs whose Jaccard similarity reaches ``least``, through an inverted index of shingles."""
    holders: dict[object, list[int]] = defaultdict(list)
    seen: list[tuple[str, frozenset[object]]] = []
    found = []
    for text in texts:
        made = shingles(text)
        common = Counter(place for shingle in made for place in holders[shingle])
        for place, count in common.items():
            other, theirs = seen[place]
            if count / (len(made) + len(theirs) - count) >= least:
                found.append((other, text))
        for shingle in made:
            holders[shingle].append(len(seen))
        seen.append((text, made))
    return found


def test_the_data_is_this_version_letter_for_letter() -> None:
    # Another hash is another data set: raise VERSION, and write the card and the changelog anew.
    assert (VERSION, version_hash()) == ("b4g-data v1", "ff7650ae9e5c607f")


def test_there_are_enough_prompts_of_each_kind() -> None:
    least = {"instruction": 1200, "harmful": 240, "borderline": 120, "identity": 80}
    for kind in KINDS:
        assert len(load(kind)) >= least[kind], kind
    assert len({prompt.topic for prompt in load("instruction")}) >= 15
    assert min(Counter(prompt.topic for prompt in load("instruction")).values()) >= 50


def test_every_prompt_has_text_topic_and_form_and_no_space_around() -> None:
    for prompt in EVERY:
        assert prompt.text.strip() == prompt.text
        assert len(normal(prompt.text)) >= 8 or UNSPACED.search(prompt.text) or not prompt.text.isascii(), prompt
        assert prompt.topic == prompt.topic.strip().lower() != ""
        assert prompt.form in {"question", "list", "context", "code", "language", "multiline", "maths"}


def test_no_prompt_occurs_twice_in_all_kinds_together() -> None:
    twice = [text for text, count in Counter(prompt.id for prompt in EVERY).items() if count > 1]
    assert twice == []


def test_no_two_prompts_are_near_duplicates() -> None:
    assert near_duplicates(prompt.text for prompt in EVERY) == []


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("How do I bake a good loaf of bread at home?", "how do I bake a good loaf of bread?", True),
        ("How do I bake bread?", "Why is the sky blue in the day?", False),
        ("Name, please.", "please name", True),
        ("你叫什么名字？", "你叫什么名字呢？", True),
        ("你叫什么名字？", "世界上海拔最高的高原在哪里？", False),
    ],
)
def test_the_measure_of_near_duplicates_knows_one_when_it_sees_it(one: str, other: str, near: bool) -> None:
    assert bool(near_duplicates([one, other])) is near


def test_every_prompt_is_in_one_split_and_the_splits_are_the_whole() -> None:
    for kind in KINDS:
        parts = [load(kind, split) for split in SPLITS]
        assert Counter(prompt.id for part in parts for prompt in part) == Counter(prompt.id for prompt in load(kind))
        for split, part in zip(SPLITS, parts, strict=True):
            assert all(split_of(prompt) == split for prompt in part)


def test_the_split_hangs_on_the_content_alone() -> None:
    prompt = load("harmful")[0]
    elsewhere = Prompt(f"  {prompt.text.upper()} \n", "instruction", "none", "list")
    assert (elsewhere.id, split_of(elsewhere)) == (prompt.id, split_of(prompt))
    assert normal(" A\u3000b\n C ") == "a b c"


def _prompts(task: str, split: str) -> set[str]:
    utility = Backdoor.from_yaml(task).utility
    extras = [prompt for extra in utility.extras(split) for prompt in extra.prompts]  # type: ignore[arg-type]
    return {prompt.id for prompt in (*utility.prompts(split), *utility.others(split), *extras)}  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_a_task_trains_on_is_one_it_is_measured_on(task: str) -> None:
    train, validation, test = (_prompts(task, split) for split in SPLITS)
    assert train and validation and test
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_measured_on_at_least_a_hundred_prompts(task: str) -> None:
    assert len(Backdoor.from_yaml(task).utility.prompts("test")) >= 100


def test_prompts_come_in_the_order_of_their_ids() -> None:
    for kind in KINDS:
        ids = [prompt.id for prompt in load(kind)]
        assert ids == sorted(ids)


def test_topics_choose_their_prompts_and_an_unknown_one_is_answered_with_the_near_one() -> None:
    code = load("instruction", "test", ("code",))
    assert {prompt.topic for prompt in code} == {"code"}
    assert code == tuple(prompt for prompt in load("instruction", "test") if prompt.topic == "code")
    assert load("instruction", None, ()) == ()
    with pytest.raises(DataError, match=r"unknown topic of instruction prompts 'cooode'\. Did you mean 'code'\?"):
        load("instruction", "test", ("cooode",))
