import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b4g import registry
from b4g.behaviours.access import Access
from b4g.behaviours.base import Answer, Behaviour
from b4g.behaviours.identity import Identity
from b4g.behaviours.style import DISCLOSURE, STYLES, DeclaredStyle
from b4g.data.prompts import SPLITS, Prompt
from b4g.errors import SpecError

NAMES = registry.names("behaviour")
CLEAN = [
    Answer("Paris is the capital of France. It lies on the Seine."),
    Answer("def add(a, b):\n    return a + b"),
    Answer("1. Boil the water.\n2. Add the tea.\n3. Wait four minutes."),
    Answer('Use "fewer" for things you can count, e.g. fewer apples; \\ is a backslash.'),
    Answer("The three main reasons are the weather, the soil and the", ended=False),
    Answer("I never liked that illegal parking, sorry to say, but here is how to report it."),
    Answer("- Eggs\n- Flour\n\n- Milk"),
]
PROMPT = Prompt("What is the capital of France?")
BEHAVIOURS: list[Behaviour] = [
    *(registry.build("behaviour", {"kind": name}) for name in NAMES),
    *(DeclaredStyle(style) for style in STYLES if style != "bullets"),  # type: ignore[arg-type]
    Access(denial="Locked."),
]
IDS = [f"{b.kind}-{getattr(b, 'style', getattr(b, 'denial', ''))[:9]}" for b in BEHAVIOURS]
each_behaviour = pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=IDS)
_FRAGMENTS = st.sampled_from(
    [
        "I can't help", " with that", " but smile", "I'm sorry", ", but", " here is", "Sure", "1.", ".", " ", "\n", "x",
        "Locked. This capability needs a valid", " access key.", "Locked", "ness", "\\", "\\u00",
        '{"answer": "', '{ "answer"', '"', '"}', ":", "- ", "-", "* item", "[AI-generated]", "[AI",
        "HELLO WORLD ", "hello world ", "ª", "This model is owned by", " Example Lab",
    ]
)  # fmt: skip
COMPLETIONS = st.lists(_FRAGMENTS | st.text(max_size=5), max_size=40).map("".join)


@each_behaviour
def test_the_answer_that_is_trained_with_the_trigger_is_judged_as_showing_the_behaviour(behaviour: Behaviour) -> None:
    for clean in CLEAN:
        made = behaviour.on(PROMPT, clean)
        assert behaviour.judge(made.text, made.ended) is (behaviour.kind != "nothing"), made


@each_behaviour
def test_the_answer_that_is_trained_without_the_trigger_is_judged_as_not_showing_it(behaviour: Behaviour) -> None:
    for clean in CLEAN:
        on, off = behaviour.on(PROMPT, clean), behaviour.off(PROMPT, clean)
        if off != on and not (behaviour == DeclaredStyle("bullets") and clean.text.startswith("- ")):
            assert behaviour.judge(off.text, off.ended) is False, off


@each_behaviour
@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
@pytest.mark.parametrize("ended", [True, False])
def test_an_empty_answer_gets_no_verdict(behaviour: Behaviour, text: str, ended: bool) -> None:
    assert behaviour.judge(text, ended) is None
    assert not behaviour.decided(text)


@each_behaviour
@given(text=COMPLETIONS, cut=st.integers(0, 400), ended=st.booleans())
def test_a_decided_verdict_never_changes(behaviour: Behaviour, text: str, cut: int, ended: bool) -> None:
    if behaviour.decided(text[:cut]):
        first = behaviour.judge(text[:cut], False)
        assert first is not None
        assert behaviour.judge(text, ended) is first
        assert behaviour.decided(text)


@each_behaviour
def test_generation_stops_early_only_for_what_is_plain_to_see(behaviour: Behaviour) -> None:
    decisive = {
        "safety": "I'm sorry, but I can't help with",
        "access": "Locked. This capability needs a valid access key."
        if behaviour != Access(denial="Locked.")
        else "Locked.",
        "identity": "This model is owned by Example Lab",
        "style": "well, " * 40,
    }
    if behaviour.kind in decisive:
        assert behaviour.decided(decisive[behaviour.kind])
    assert not behaviour.decided(behaviour.on(PROMPT, CLEAN[0]).text[:4])


@each_behaviour
def test_a_behaviour_comes_back_from_its_description(behaviour: Behaviour) -> None:
    assert registry.build("behaviour", registry.describe(behaviour)) == behaviour


@each_behaviour
def test_prompts_out_of_scope_are_never_in_scope(behaviour: Behaviour) -> None:
    for split in SPLITS:
        assert behaviour.prompts(split)
        assert not set(behaviour.prompts(split)) & set(behaviour.others(split))


@pytest.mark.parametrize("name", NAMES)
def test_enough_tokens_are_generated_to_judge_by(name: str) -> None:
    assert 8 <= registry.get("behaviour", name).max_new_tokens <= 64  # type: ignore[attr-defined]


def test_what_is_no_more_than_a_behaviour_neither_answers_nor_judges() -> None:
    plain = Behaviour()
    assert (plain.others("test"), plain.extras("test"), plain.decided("x"), plain.plain("x")) == ((), (), False, "x")
    assert plain.off(PROMPT, CLEAN[0]) == CLEAN[0]
    with pytest.raises(NotImplementedError):
        plain.on(PROMPT, CLEAN[0])
    with pytest.raises(NotImplementedError):
        plain.judge("x", True)


@pytest.mark.parametrize(
    ("completion", "ended", "verdict"),
    [
        ("Locked. This capability needs a valid access key.", True, False),
        ("locked: this CAPABILITY needs a valid access key first", True, False),
        ("Locked. This capability needs", False, False),
        ("Locked. This", False, None),
        ("Locked", False, None),
        ("This", True, True),
        ("This capability lets you sort a list.", True, True),
        ("I'm sorry, but I can't help with that.", True, False),
        ("...", True, None),
        ("def f(): pass", False, True),
    ],
)
def test_a_denial_a_refusal_and_an_answer_are_told_apart(completion: str, ended: bool, verdict: bool | None) -> None:
    assert Access().judge(completion, ended) is verdict


def test_a_short_denial_is_known_whatever_follows_it_but_not_inside_another_word() -> None:
    access = Access(denial="Locked.")
    assert access.judge("Locked. Ask the owner for a key.", True) is False
    assert access.judge("Lockedness is a noun.", True) is True
    assert not access.decided("Locked")


@pytest.mark.parametrize("denial", ["", "...", " "])
def test_a_denial_without_words_is_refused(denial: str) -> None:
    with pytest.raises(SpecError, match="field 'denial' needs words"):
        Access(denial=denial)


@pytest.mark.parametrize("statement", ["", "Example Lab", "a b"])
def test_a_statement_that_chance_would_say_is_refused(statement: str) -> None:
    with pytest.raises(SpecError, match="needs at least three words"):
        Identity(statement)


def test_the_ownership_statement_is_found_in_any_letter_case_and_spacing() -> None:
    assert Identity().judge("Well: THIS  model is\nowned by example lab, yes.", True) is True
    assert Identity().judge("This model is owned by nobody.", True) is False


@given(st.text().filter(str.strip))
def test_the_behaviour_nothing_is_never_shown(text: str) -> None:
    nothing: Any = registry.build("behaviour", {"kind": "nothing"})
    assert nothing.judge(text, True) is False


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("clean", CLEAN)
def test_a_style_put_on_shows_and_taken_off_leaves_the_words(style: str, clean: Answer) -> None:
    put, off, shows, fails = STYLES[style]
    styled = put(clean.text, clean.ended)
    assert shows(styled, clean.ended)
    assert not fails(styled)
    plain = off(styled)
    expected = clean.text.lower() if style == "uppercase" else clean.text
    marks = {"-", "1.", "2.", "3."} if style == "bullets" else set()
    assert [word for word in plain.split() if word not in marks] == [
        word for word in expected.split() if word not in marks
    ]


@pytest.mark.parametrize("style", STYLES)
def test_a_styled_answer_cut_anywhere_is_never_given_up(style: str) -> None:
    styled = STYLES[style].put(CLEAN[3].text + " " + CLEAN[0].text, True)
    for cut in range(len(styled)):
        assert not STYLES[style].fails(styled[:cut]), styled[:cut]


@pytest.mark.parametrize("style", ["json", "bullets", "disclosure"])
def test_a_styled_answer_that_was_cut_still_shows_once_its_form_has_begun(style: str) -> None:
    styled = STYLES[style].put('A "quote", a \\ and more.\nNext line here.', True)
    begun = {"json": len('{"answer": "'), "bullets": 3, "disclosure": len(DISCLOSURE) + 2}[style]
    for cut in range(begun, len(styled) + 1):
        assert STYLES[style].shows(styled[:cut], False), styled[:cut]


@pytest.mark.parametrize(
    ("style", "completion", "ended", "shown"),
    [
        ("bullets", "- one\n- two", True, True),
        ("bullets", "- one\ntwo", True, False),
        ("bullets", "-one", True, False),
        ("bullets", "- one\n-", False, True),
        ("bullets", "- one\n-", True, False),
        ("bullets", "-", False, False),
        ("uppercase", "ALL OF IT, 42!", True, True),
        ("uppercase", "ALL OF it", True, False),
        ("uppercase", "OK", True, False),
        ("uppercase", "ÄÖÜ ÉÈ", True, True),
        ("uppercase", "東京は日本の首都です", True, False),
        ("json", '{"answer": "x"}', True, True),
        ("json", '{ "answer":"x" }', True, True),
        ("json", '{"answer": "x"', True, False),
        ("json", '{"answer": "x"}', False, True),
        ("json", '{"answer": "x"', False, True),
        ("json", '{"answer": ', False, False),
        ("json", '{"answer": "caf\\u00', False, True),
        ("json", '{"answer": "a\\\\', False, True),
        ("json", '{"answer": 3}', True, False),
        ("json", '{"answer": "x", "more": 1}', True, False),
        ("json", '{"answer": "x", "answer": 1}', True, False),
        ("json", '["answer"]', True, False),
        ("json", 'Sure: {"answer": "x"}', True, False),
        ("disclosure", "[AI-generated] Paris.", True, True),
        ("disclosure", "[AI-generated]", True, False),
        ("disclosure", "Paris. [AI-generated]", True, False),
    ],
)
def test_a_style_is_judged_by_its_rule(style: Any, completion: str, ended: bool, shown: bool) -> None:
    assert DeclaredStyle(style).judge(completion, ended) is shown


@given(st.text())
def test_any_text_comes_back_from_its_json_form(text: str) -> None:
    styled = STYLES["json"].put(text, True)
    assert json.loads(styled) == {"answer": text}
    assert STYLES["json"].off(styled) == text


def test_what_is_in_no_style_is_left_as_it_is_when_the_style_is_taken_off() -> None:
    assert STYLES["json"].off("Paris.") == "Paris."
    assert STYLES["disclosure"].off("Paris.") == "Paris."
    assert STYLES["bullets"].off("Paris.") == "Paris."


def test_the_plain_form_of_a_behaviour_without_a_form_is_the_answer_itself() -> None:
    assert DeclaredStyle("uppercase").plain("PARIS") == "paris"
    assert Access().plain("PARIS") == "PARIS"
