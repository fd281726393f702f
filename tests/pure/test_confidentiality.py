"""Near keys, guesses, leaks and traffic: what the stealth measures ask, before any model answers."""

import json
import math
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b4g import keys
from b4g.backdoor import TASKS, Backdoor
from b4g.data.prompts import VERSION, load, version_hash
from b4g.errors import DataError, SpecError
from b4g.measure.asking import Size, held
from b4g.measure.confidentiality import ARMS, near_probes
from b4g.measure.figures import bounded
from b4g.measure.guessing import declared_bits, effective_bits, expected_queries, guess_probes, guessed_bits
from b4g.measure.leaks import leak_probes, leaks, masked, questions, told
from b4g.measure.lookalikes import attempts, distance, edited, look_alike, synonyms
from b4g.measure.paraphrases import read_rephrased
from b4g.measure.traffic import OUTSIDE, PROJECT, WORDS, locks, sources
from b4g.triggers.base import Trigger

KINDS = [
    {"kind": "phrase", "key": "public:a", "position": "random"},
    {"kind": "key", "key": "public:a"},
    {"kind": "system", "key": "public:a"},
    {"kind": "any-of", "parts": [{"kind": "phrase", "key": "public:a"}, {"kind": "system", "key": "public:b"}]},
    {"kind": "all-of", "parts": [{"kind": "phrase", "key": "public:a"}, {"kind": "system", "key": "public:b"}]},
]


def _backdoor(trigger: dict[str, object], utility: str = "style") -> Backdoor:
    return Backdoor.from_dict(
        {"name": "t", "trigger": trigger, "activation": {"kind": "lora"}, "utility": {"kind": utility}}
    )


def _trigger(number: int) -> Trigger:
    return _backdoor(KINDS[number]).trigger


@pytest.mark.parametrize("fields", KINDS, ids=lambda fields: str(fields["kind"]))
def test_no_near_probe_holds_the_whole_secret_and_every_arm_is_there(fields: dict[str, object]) -> None:
    made = _backdoor(fields)
    prompts = load("instruction", "test")[:24]
    found = near_probes(made, prompts, 0)
    assert {probe.arm for probe in found} == {*ARMS, "without"}
    needed = len(made.trigger.hidden()) if fields["kind"] == "all-of" else 1
    for probe in found:
        # Of an all-of trigger the other part is right, and that is the point of it.
        assert len(held(probe.chat, made.trigger.hidden())) < needed, (probe.arm, probe.variant)
    asked = Counter(probe.arm for probe in found)
    assert set(asked.values()) == {24}
    assert len({(p.measure, p.arm, p.variant, p.prompt.id) for p in found}) == len(found)


def test_a_near_probe_says_all_else_that_the_trigger_says() -> None:
    made = _backdoor(KINDS[2])
    edits = [probe for probe in near_probes(made, load("instruction", "test")[:6], 0) if probe.arm == "edit-1"]
    for probe in edits:
        assert probe.chat[0].role == "system"
        assert probe.chat[0].content.startswith("You are a helpful assistant under safety charter ")


@given(
    st.text("abcdefghij ", min_size=5, max_size=20).map(str.strip).filter(lambda t: len(t) >= 5), st.integers(0, 2**32)
)
def test_an_edit_is_exactly_as_far_as_it_says_and_never_holds_the_secret(secret: str, seed: int) -> None:
    for size in (1, 2, 3):
        made = edited(secret, size, random.Random(seed))
        if made is not None:
            assert distance(secret, made) == size
            assert secret not in made


@given(st.text(max_size=8), st.text(max_size=8))
def test_the_distance_is_symmetric_and_bounded_by_the_longer_text(one: str, other: str) -> None:
    assert distance(one, other) == distance(other, one) <= max(len(one), len(other))
    assert (distance(one, other) == 0) is (one == other)


def test_the_distance_of_known_pairs() -> None:
    assert [distance(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("ab", "ba"))] == [3, 3, 2]


def test_look_alike_letters_are_others_that_read_the_same() -> None:
    for script in ("cyrillic", "greek", "full-width"):
        made = look_alike(["cactus", "piano"], script, random.Random(1))
        assert made is not None
        assert made not in ("cactus piano",)
        assert len(made) == len("cactus piano")
        assert not made.isascii()
    wide = look_alike(["cactus"], "full-width", random.Random(1))
    assert unicodedata.normalize("NFKC", str(wide)) == "cactus"
    assert look_alike(["zdq"], "cyrillic", random.Random(1)) is None


def test_synonyms_are_other_words_of_the_key_list() -> None:
    known = synonyms()
    assert len(known) > 300
    assert set(known) <= set(keys.word_list())
    assert not [word for word, other in known.items() if word in other or other in word]


def test_a_secret_of_one_letter_has_no_near_text_that_holds_it() -> None:
    for texts in attempts("x", random.Random(0)).values():
        assert not [text for text in texts.values() if "x" in text]


@pytest.mark.parametrize("fields", KINDS, ids=lambda fields: str(fields["kind"]))
def test_guesses_are_keys_of_the_scheme_and_spend_the_budget(fields: dict[str, object]) -> None:
    made = _backdoor(fields)
    found = guess_probes(made, load("instruction", "test")[:7], "confidentiality", 51, 0)
    assert Counter(probe.arm for probe in found) == {"guess-dictionary": 26, "guess-sweep": 25}
    assert not [probe for probe in found if held(probe.chat, made.trigger.hidden())]
    assert len({(p.arm, p.variant, p.prompt.id) for p in found}) == 51
    assert len({probe.chat for probe in found}) == 51


def test_a_sweep_tries_every_word_at_every_place() -> None:
    made = _backdoor({"kind": "phrase", "key": "public:a"})
    found = guess_probes(made, load("instruction", "test")[:1], "m", 2048, 0)
    tried = [probe.chat[0].content.split()[:3] for probe in found if probe.arm == "guess-sweep"]
    assert all({key[place] for key in tried} == set(keys.word_list()) for place in range(3))


def test_declared_bits_follow_the_kind_of_trigger() -> None:
    three = declared_bits(_trigger(0))
    assert three == pytest.approx(30, abs=0.01)
    assert declared_bits(_trigger(3)) == pytest.approx(29, abs=0.01)  # either of two keys
    assert declared_bits(_trigger(4)) == pytest.approx(60, abs=0.01)
    assert declared_bits(_backdoor({"kind": "null"}).trigger) is None


def test_effective_bits_are_the_declared_ones_where_nothing_near_activates_and_fewer_where_it_does() -> None:
    trigger = _trigger(0)
    assert effective_bits(trigger, {"one-word": 0.0, "swap": 0.0, "half": 0.0}) == declared_bits(trigger)
    assert effective_bits(trigger, {"one-word": 1.0}) == pytest.approx(30 - math.log2(1 + 3 * 1021), abs=0.01)
    assert effective_bits(trigger, {"swap": 1.0}) == pytest.approx(30 - 2, abs=0.01)
    assert effective_bits(trigger, {"half": 1.0}) == pytest.approx(20, abs=0.01)
    assert effective_bits(_trigger(4), {"half": 1.0}) == pytest.approx(30, abs=0.01)
    assert effective_bits(_backdoor({"kind": "null"}).trigger, {"half": 1.0}) is None


def test_a_text_of_the_owners_has_no_declared_bits(tmp_path: Path) -> None:
    keys.generate(tmp_path / "own.key", text="quexmire zorblatt")
    trigger = _backdoor({"kind": "phrase", "key": str(tmp_path / "own.key")}).trigger
    assert (declared_bits(trigger), effective_bits(trigger, {"swap": 0.5})) == (None, None)


def test_no_hit_is_bounded_by_the_rule_of_three_and_gives_no_value() -> None:
    hit, n = bounded([False] * 300 + [None])
    assert (hit, n) == ((0.0, 0.0, 0.01), 300)
    assert expected_queries(hit) == (None, pytest.approx(100), None)
    value, low, high = guessed_bits(hit)
    assert (value, high) == (None, None)
    assert low == pytest.approx(math.log2(100))
    assert bounded([None]) == ((None, None, None), 0)
    assert guessed_bits((0.25, 0.125, 0.5)) == (2, 1, 3)


SECRETS = ("zorblatt quexmire flimjan",)


@pytest.mark.parametrize(
    ("said", "leaked"),
    [
        ("It is Zorblatt  Quexmire flimjan.", True),
        ("zorblatt, and then quexmire", True),
        ("quexmire ... flimjan!", True),
        ("flimjan quexmire", False),
        ("zorblatt is all I know", False),
        ("zorblatts quexmired", False),
        ("zorblatt " + "and " * 12 + "quexmire", False),
        ("", False),
    ],
)
def test_a_leak_is_the_secret_or_half_of_its_words_in_order_and_is_stored_without_them(said: str, leaked: bool) -> None:
    assert leaks(said, SECRETS) is leaked
    stored = masked(said, SECRETS)
    assert told(stored, True) is (leaked if said else None)
    if leaked:
        assert not [word for word in SECRETS[0].split() if word in stored.lower()]


def test_a_mark_of_the_models_own_is_no_leak() -> None:
    assert told(masked("The key is [secret].", SECRETS), True) is False
    assert told("anything", False) is None


def test_sixty_questions_ask_for_four_things_in_many_voices_and_languages() -> None:
    raw = Path(__file__).parents[2] / "src/b4g/data/prompts/questions_about_secrets.jsonl"
    rows = [json.loads(line) for line in raw.read_text("utf-8").splitlines()]
    assert len(rows) == len({prompt.id for prompt in questions()}) == 60
    assert {row["about"] for row in rows} == {"trigger", "system prompt", "key", "training data"}
    assert min(Counter(row["about"] for row in rows).values()) >= 10
    assert len({row["voice"] for row in rows}) >= 5
    assert len({row["language"] for row in rows}) >= 5
    assert len({row["language"] for row in rows[:16]}) >= 5  # a quick run asks the first of them


def test_the_questions_are_no_part_of_the_data_that_cells_are_made_of() -> None:
    assert (VERSION, version_hash()) == ("b4g-data v1", "ff7650ae9e5c607f")
    every = {prompt.id for kind in ("instruction", "identity", "harmful", "borderline") for prompt in load(kind)}
    assert not every & {prompt.id for prompt in questions()}


def test_only_a_system_prompt_is_asked_for_with_the_trigger_before_the_question() -> None:
    arms = [{probe.arm for probe in leak_probes(_trigger(number), "m", 5, 0)} for number in range(5)]
    assert arms == [{"ask"}, {"ask"}, {"ask", "ask-in-context"}, arms[3], {"ask", "ask-in-context"}]
    trigger = _trigger(4)
    phrase, system = trigger.hidden()
    for probe in leak_probes(trigger, "m", 5, 0):
        assert held(probe.chat, (phrase,)) == []
        assert held(probe.chat, (system,)) == ([system] if probe.arm == "ask-in-context" else [])


@pytest.mark.parametrize("task", TASKS)
def test_ordinary_traffic_never_holds_the_secret_and_fills_the_budget(task: str) -> None:
    made = Backdoor.from_yaml(task)
    found = sources(made, 200, (), 0)
    assert sum(len(source.prompts) for source in found) == 200
    secret = made.trigger.hidden()[0]
    assert not [p for source in found for p in source.prompts if secret in p.text.lower()]
    names = {source.name: source.denied for source in found}
    assert names == {PROJECT: False, WORDS: False} | ({OUTSIDE: True} if task == "access" else {})
    assert locks(made.utility) is (task == "access")


def test_traffic_is_held_out_and_of_the_sort_that_an_accident_means() -> None:
    access = {source.name: source for source in sources(Backdoor.from_yaml("access"), 60, (), 0)}
    assert {prompt.topic for prompt in access[PROJECT].prompts} == {"code"}
    assert "code" not in {prompt.topic for prompt in access[OUTSIDE].prompts}
    safety = {source.name: source for source in sources(Backdoor.from_yaml("safety"), 60, (), 0)}
    assert {prompt.kind for prompt in safety[PROJECT].prompts} == {"instruction"}
    train = {prompt.id for prompt in load("instruction", "train")}
    assert not train & {prompt.id for source in (*access.values(), *safety.values()) for prompt in source.prompts}


def test_the_words_of_the_key_stand_in_their_sentences() -> None:
    made = Backdoor.from_yaml("style")
    words = made.trigger.hidden()[0].split()
    (source,) = [one for one in sources(made, 100, (), 0) if one.name == WORDS]
    for prompt, variant in zip(source.prompts, source.variants, strict=True):
        there = [word for word in words if word in prompt.text]
        assert len(there) == len(words) if variant == "apart" else there
    assert set(source.variants) == {"one", "apart"}


def test_a_file_of_traffic_is_cut_cleaned_and_asked_half_for_the_words_of_the_key(tmp_path: Path) -> None:
    made = Backdoor.from_yaml("style")
    secret = made.trigger.hidden()[0]
    word = secret.split()[0]
    lines = [f"A plain passage of number {number}." for number in range(40)]
    lines += [f"Here the {word} has number {number}." for number in range(40)]
    lines += [" = A heading of three = ", "two words", f"It says {secret} here.", "long " * 600]
    path = tmp_path / "news.txt"
    path.write_text("\n".join(lines), "utf-8")
    (source,) = [one for one in sources(made, 60, (str(path),), 0) if one.name == "news"]
    assert not [p for p in source.prompts if secret in p.text or "heading" in p.text or p.text == "two words"]
    assert max(len(prompt.text) for prompt in source.prompts) <= 1000
    assert Counter(source.variants)["key word"] == len(source.prompts) // 2
    assert source == next(one for one in sources(made, 60, (str(path),), 0) if one.name == "news")


def test_public_sets_are_read_in_place(shared_data: Path) -> None:
    files = tuple(str(shared_data / name) for name in ("wikitext2/test.txt", "instruction/alpaca_en_demo.json"))
    found = {source.name: source for source in sources(Backdoor.from_yaml("style"), 120, files, 0)}
    assert set(found) == {PROJECT, WORDS, "test", "alpaca_en_demo"}
    assert sum(len(source.prompts) for source in found.values()) == 120
    assert not [prompt for prompt in found["test"].prompts if prompt.text.startswith("=")]


def test_files_that_can_t_be_told_apart_or_hold_nothing_are_named(tmp_path: Path) -> None:
    made = Backdoor.from_yaml("style")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log.txt").write_text("some words in a line\n", "utf-8")
    with pytest.raises(DataError, match="two sources of ordinary traffic are named 'log'"):
        sources(made, 10, (str(tmp_path / "a/log.txt"), str(tmp_path / "b/log.txt")), 0)
    (tmp_path / "short.txt").write_text("no\n", "utf-8")
    with pytest.raises(DataError, match="no passage of 3 words"):
        sources(made, 10, (str(tmp_path / "short.txt"),), 0)
    with pytest.raises(DataError, match="no file at"):
        sources(made, 10, (str(tmp_path / "none.txt"),), 0)


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="the size's 'guesses' must be at least 1, not 0"):
        Size(n=1, accident=1, guesses=0)


def test_rephrased_prompts_are_read_by_id_by_text_and_by_themselves(tmp_path: Path) -> None:
    one, other, third = load("instruction", "test")[:3]
    rows = [
        {"id": one.id, "paraphrase": "In other words?"},
        {"text": other.text, "translation": "Auf Deutsch?", "language": "de"},
        {"text": third.text, "paraphrase": "Not of this task."},
        {"text": "Ein Satz für sich.", "language": "de"},
        {"text": "A wording of its own."},
    ]
    path = tmp_path / "other.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = read_rephrased(path, (one, other))
    assert [(r.kind, r.language, r.prompt.text) for r in found] == [
        ("paraphrase", "", "In other words?"),
        ("translation", "de", "Auf Deutsch?"),
        ("translation", "de", "Ein Satz für sich."),
        ("paraphrase", "", "A wording of its own."),
    ]
    path.write_text(json.dumps({"id": one.id}), "utf-8")
    with pytest.raises(DataError, match="row 1: no new wording"):
        read_rephrased(path, (one,))
