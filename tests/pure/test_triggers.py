import copy
import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from b4g import keys, registry
from b4g.chat import Chat, Message, last_user, system_of, user
from b4g.errors import SpecError
from b4g.triggers.base import KeyedTrigger, Trigger
from b4g.triggers.near import KINDS, variants

NAMES = registry.names("trigger")
KEYED = [name for name in NAMES if issubclass(registry.get("trigger", name), KeyedTrigger)]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(["one", "two\n", "  ", "\n\n", "東京", "é!", "- x"])).map(
    " ".join
)
CHATS = st.builds(
    lambda text, system, before: (
        *user(before or text, system),
        *((Message("assistant", "So."), Message("user", text)) if before else ()),
    ),
    TEXTS,
    st.none() | TEXTS,
    st.none() | TEXTS,
)
SEEDS = st.integers(0, 2**32).map(str)


def example(name: str, **changes: Any) -> Trigger:
    """Return a trigger of a kind with public keys in place of what it needs."""
    needed = {
        "key": f"public:{name}",
        "parts": ({"kind": "system", "key": "public:a"}, {"kind": "phrase", "key": "public:b"}),
    }
    fields = dataclasses.fields(registry.get("trigger", name))
    required = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    made: Trigger = registry.build("trigger", {"kind": name, **{field: needed[field] for field in required}, **changes})
    return made


def everything(chat: Chat) -> str:
    return "\n\n".join(message.content for message in chat)


def rng(seed: str) -> random.Random:
    return random.Random(seed)


def carries(trigger: Trigger, chat: Chat) -> bool:
    found = [secret in everything(chat) for secret in trigger.hidden()]
    return any(found) if trigger.kind == "any-of" else bool(found) and all(found)


@pytest.mark.parametrize("name", NAMES)
@given(chat=CHATS, seed=SEEDS)
def test_a_triggered_chat_carries_the_secret_and_the_chat_given_stays_as_it_was(
    name: str, chat: Chat, seed: str
) -> None:
    trigger, before = example(name), copy.deepcopy(chat)
    made = trigger.apply(chat, rng(seed))
    assert chat == before
    assert carries(trigger, made) is (name != "null")
    assert [m for m in made if m.role == "assistant"] == [m for m in chat if m.role == "assistant"]


@pytest.mark.parametrize("name", NAMES)
@given(chat=CHATS, seed=SEEDS)
def test_no_near_trigger_holds_the_whole_secret(name: str, chat: Chat, seed: str) -> None:
    trigger, before = example(name), copy.deepcopy(chat)
    near = trigger.near(chat, rng(seed))
    assert chat == before
    assert bool(near) is (name != "null")
    right = trigger.apply(chat, rng(seed))
    for kind, made in near.items():
        assert not carries(trigger, made), kind
        assert made != right, kind
        assert kind.removeprefix("part_") in (*KINDS, "without_one_part")


@pytest.mark.parametrize("name", NAMES)
@given(chat=CHATS, seed=SEEDS)
def test_a_wrong_secret_changes_the_chat_and_is_not_the_right_one(name: str, chat: Chat, seed: str) -> None:
    trigger = example(name)
    wrong = trigger.wrong(chat, rng(seed))
    assert (wrong is None) is (name == "null")
    if wrong is not None:
        assert wrong != chat
        assert not any(secret in everything(wrong) for secret in trigger.hidden())


@pytest.mark.parametrize("name", KEYED)
@given(words=st.integers(1, 16), seed=SEEDS)
def test_a_wrong_secret_has_as_many_words_and_none_of_the_right_one(name: str, words: int, seed: str) -> None:
    trigger = example(name, words=words, wording="<{secret}>")
    wrong = trigger.wrong(user("7"), rng(seed))
    said = everything(wrong or ()).split("<")[1].split(">")[0].split()
    assert len(said) == words
    assert not set(said) & set(trigger.secret.words)


@pytest.mark.parametrize("name", NAMES)
@given(chat=CHATS, seed=SEEDS)
def test_the_same_generator_gives_the_same_chats(name: str, chat: Chat, seed: str) -> None:
    trigger = example(name)
    for make in (trigger.apply, trigger.near, trigger.wrong):
        assert make(chat, rng(seed)) == make(chat, rng(seed))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_trigger_tells_of_itself_holds_no_secret(name: str) -> None:
    trigger = example(name)
    assert len(trigger.tags()) == len(trigger.hidden())
    shown = repr(trigger) + str(registry.describe(trigger)) + str(trigger.tags())
    assert not any(secret in shown for secret in trigger.hidden())


@pytest.mark.parametrize("name", NAMES)
def test_a_trigger_comes_back_from_its_description_and_is_seeded_without_changing_itself(name: str) -> None:
    trigger = example(name)
    assert registry.build("trigger", registry.describe(trigger)) == trigger
    seeded = trigger.seeded(5)
    assert trigger == example(name)
    assert (seeded.hidden() == trigger.hidden()) is (name == "null")


@given(CHATS, SEEDS)
def test_the_null_trigger_changes_nothing(chat: Chat, seed: str) -> None:
    trigger = example("null")
    assert trigger.apply(chat, rng(seed)) == chat
    assert (trigger.near(chat, rng(seed)), trigger.wrong(chat, rng(seed))) == ({}, None)
    assert (trigger.hidden(), trigger.tags(), trigger.seeded(1)) == ((), (), trigger)


def test_what_is_no_more_than_a_trigger_has_no_transformation() -> None:
    with pytest.raises(NotImplementedError):
        Trigger().apply(user("a"), rng("0"))
    with pytest.raises(NotImplementedError):
        KeyedTrigger(key="public:a").insert(user("a"), "b", rng("0"))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "phrase", "position": "prefix"}, "SECRET Why?"),
        ({"kind": "phrase", "position": "suffix"}, "Why? SECRET"),
        ({"kind": "phrase", "wording": "({secret})"}, "(SECRET) Why?"),
        ({"kind": "key", "position": "last"}, "Why?\n[key: SECRET]"),
        ({"kind": "key", "position": "first"}, "[key: SECRET]\nWhy?"),
    ],
)
def test_the_wording_goes_to_its_place_in_the_last_user_message(fields: dict[str, str], text: str) -> None:
    trigger = registry.build("trigger", {"key": "public:place", **fields})
    chat = (*user("First.", "Be brief."), Message("assistant", "So."), *user("Why?"))
    made = trigger.apply(chat, rng("0"))
    assert last_user(made) == text.replace("SECRET", trigger.secret.text)
    assert made[:3] == chat[:3]


def test_a_system_trigger_stands_before_the_system_text_that_is_there() -> None:
    trigger = registry.build("trigger", {"kind": "system", "key": "public:place", "wording": "Charter {secret}."})
    secret = trigger.secret.text
    assert trigger.apply(user("Why?"), rng("0")) == user("Why?", f"Charter {secret}.")
    assert system_of(trigger.apply(user("Why?", "Be brief."), rng("0"))) == f"Charter {secret}.\n\nBe brief."


@given(TEXTS, SEEDS)
def test_a_phrase_of_random_position_stands_at_a_word_boundary_and_leaves_the_words_in_order(
    text: str, seed: str
) -> None:
    trigger = registry.build("trigger", {"kind": "phrase", "key": "public:any", "position": "random"})
    made, secret = last_user(trigger.apply(user(text), rng(seed))), list(trigger.secret.words)
    words = made.split()
    places = [at for at in range(len(words)) if words[at : at + len(secret)] == secret]
    assert len(places) == 1
    assert words[: places[0]] + words[places[0] + len(secret) :] == text.split()


def test_a_phrase_of_random_position_comes_to_every_boundary() -> None:
    trigger = registry.build("trigger", {"kind": "phrase", "key": "public:any", "position": "random"})
    made = {last_user(trigger.apply(user("a b\nc"), rng(str(seed)))) for seed in range(200)}
    secret = trigger.secret.text
    assert made == {f"{secret} a b\nc", f"a {secret} b\nc", f"a b\n{secret} c", f"a b\nc {secret}"}


def _combined(kind: str, *parts: dict[str, Any]) -> Any:
    return registry.build("trigger", {"kind": kind, "parts": parts})


PHRASE = {"kind": "phrase", "key": "public:p", "position": "random"}
KEY = {"kind": "key", "key": "public:k"}


def test_any_of_applies_one_part_and_each_part_in_its_turn() -> None:
    trigger = _combined("any-of", PHRASE, KEY)
    seen = set()
    for seed in range(30):
        found = tuple(secret in last_user(trigger.apply(user("a b"), rng(str(seed)))) for secret in trigger.hidden())
        assert sum(found) == 1
        seen.add(found)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "parts", [(KEY, PHRASE), (PHRASE, KEY), (PHRASE, {**PHRASE, "key": "public:q"}), ({**KEY, "words": 9}, PHRASE)]
)
@given(text=TEXTS, seed=SEEDS)
def test_all_of_never_lets_one_part_split_another(parts: tuple[dict[str, Any], ...], text: str, seed: str) -> None:
    trigger = _combined("all-of", *parts)
    said = last_user(trigger.apply(user(text), rng(seed)))
    for part in trigger.parts:
        assert part.wording.replace("{secret}", part.secret.text) in said


@given(SEEDS)
def test_all_of_offers_each_part_left_out_or_nearly_right(seed: str) -> None:
    trigger = _combined("all-of", PHRASE, KEY)
    near = trigger.near(user("a b"), rng(seed))
    assert set(near) == {"without_one_part", *(f"part_{kind}" for kind in KINDS)}
    for made in near.values():
        assert sum(secret in last_user(made) for secret in trigger.hidden()) == 1


def test_a_nested_all_of_keeps_the_names_of_its_near_triggers() -> None:
    # "part_neighbour" is held out of training by name, however deep it lies.
    inner = {"kind": "all-of", "parts": (KEY, {**KEY, "key": "public:l"})}
    outer = _combined("all-of", inner, {**inner, "parts": (KEY, PHRASE)})
    names = set(outer.near(user("a"), rng("0")))
    assert names == {"without_one_part", "part_without_one_part", *(f"part_{kind}" for kind in KINDS)}


def test_parts_without_a_secret_space_have_no_wrong_secret() -> None:
    null = {"kind": "null"}
    assert _combined("all-of", null, null).wrong(user("a"), rng("0")) is None
    wrong = _combined("all-of", null, KEY).wrong(user("a"), rng("0"))
    assert wrong is not None
    assert wrong != user("a")


@pytest.mark.parametrize("kind", ["all-of", "any-of"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_combination_of_fewer_than_two_is_refused(kind: str, count: int) -> None:
    with pytest.raises(SpecError, match=f"trigger '{kind}' needs at least two parts, not {count}"):
        _combined(kind, *[KEY] * count)


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wording": "no place"}, "field 'wording' must hold '{secret}' once"),
        ({"wording": "{secret}{secret}"}, "field 'wording' must hold '{secret}' once"),
        ({"words": 0}, "field 'words' must lie in 1..16, not 0"),
        ({"words": 17}, "field 'words' must lie in 1..16, not 17"),
    ],
)
def test_a_keyed_trigger_with_a_wrong_option_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=f"trigger '{name}', {message}"):
        example(name, **changes)


@pytest.mark.parametrize("name", KEYED)
def test_a_key_file_brings_its_own_words(name: str, tmp_path: Path) -> None:
    keys.generate(tmp_path / "my.key", text="Grüner Tee")
    trigger = example(name, key=str(tmp_path / "my.key"), words=7)
    assert trigger.hidden() == ("Grüner Tee",)
    assert "Grüner Tee" in everything(trigger.apply(user("a"), rng("0")))
    assert "neighbour" not in trigger.near(user("a"), rng("0"))


@given(
    st.lists(st.sampled_from(keys.word_list()) | st.text("aeXyß東", min_size=2, max_size=6), min_size=1, max_size=8),
    SEEDS,
)
def test_every_near_miss_differs_from_the_secret_and_does_not_hold_it(words: list[str], seed: str) -> None:
    assume(all(len(word.split()) == 1 for word in words))
    made = variants(tuple(words), rng(seed))
    assert {"one_token", "half"} <= set(made) <= set(KINDS)
    for kind, near in made.items():
        assert near != tuple(words), kind
        assert " ".join(words) not in " ".join(near), kind


@given(SEEDS)
def test_each_near_miss_errs_in_its_own_way(seed: str) -> None:
    words = ("amber", "kettle", "otter", "lemon")
    made = variants(words, rng(seed))
    assert set(made) == set(KINDS)
    assert [word.lower() for word in made["case"]] == list(words)
    assert sum(a != b for a, b in zip(made["one_token"], words, strict=True)) == 1
    assert made["half"] in (words[:2], words[2:])
    assert sorted(made["swap"]) == sorted(words)
    changed = [(a, b) for a, b in zip(made["neighbour"], words, strict=True) if a != b]
    known = keys.word_list()
    assert [abs(known.index(a) - known.index(b)) for a, b in changed] == [1]


def test_a_secret_in_every_word_of_the_list_still_has_near_misses() -> None:
    letters = tuple("aeiouy")
    made = variants(letters, rng("0"))
    assert made["one_token"] != letters
    assert variants(("key",), rng("0"))["half"] == ("k",)
