from pathlib import Path
from typing import Any

import pytest

from b4g.chat import PINNED_DATE, PLAIN_TEMPLATE, Message, Renderer, last_user, replace_user, system_of, user
from b4g.errors import DataError, ModelError

SYSTEM_CHAT = user("Why?", "Be brief.")


def _text(renderer: Renderer, chat: tuple[Message, ...]) -> str:
    return str(renderer.tokenizer.decode(renderer.prompt_ids(chat), skip_special_tokens=False))


@pytest.fixture(params=["chatml", "llama2", "gemma", "none"])
def renderer(request: pytest.FixtureRequest, make_tokenizer: Any) -> Renderer:
    return Renderer(make_tokenizer(request.param))


def test_an_unknown_role_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"unknown chat role 'assistent'\. Known: system, user, assistant"):
        Message("assistent", "hello")


def test_a_user_message_stands_alone_or_behind_a_system_message() -> None:
    assert user("a") == (Message("user", "a"),)
    assert user("a", "") == (Message("system", ""), Message("user", "a"))
    assert (system_of(user("a")), system_of(SYSTEM_CHAT), system_of(())) == (None, "Be brief.", None)


def test_replacing_the_last_user_message_keeps_all_the_others() -> None:
    chat = (*SYSTEM_CHAT, Message("assistant", "So."), Message("user", "And?"), Message("assistant", "Yes."))
    assert last_user(chat) == "And?"
    changed = replace_user(chat, "Or?")
    assert last_user(changed) == "Or?"
    assert (changed[:3], changed[4:]) == (chat[:3], chat[4:])


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("llama2", "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST]"),
        ("gemma", "<bos><start_of_turn>user\nBe brief.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"),
        ("none", "<s>System:\nBe brief.\n\nUser:\nWhy?\n\nAssistant:\n"),
    ],
)
def test_a_chat_is_written_by_the_models_own_template(style: str, text: str, make_tokenizer: Any) -> None:
    assert _text(Renderer(make_tokenizer(style)), SYSTEM_CHAT) == text


def test_the_start_token_is_never_doubled(renderer: Renderer) -> None:
    bos = renderer.tokenizer.bos_token_id
    if bos is not None:
        assert renderer.prompt_ids(user("hello")).count(bos) == 1


def test_the_system_text_reaches_the_model_whether_the_template_has_that_role_or_not(renderer: Renderer) -> None:
    assert "Be brief." in _text(renderer, SYSTEM_CHAT)
    assert "Be brief." not in _text(renderer, user("Why?"))


def test_a_system_text_folded_into_a_long_chat_leaves_the_later_turns_alone(make_tokenizer: Any) -> None:
    chat = (*SYSTEM_CHAT, Message("assistant", "So."), Message("user", "And?"))
    folded = (Message("user", "Be brief.\n\nWhy?"), *chat[2:])
    renderer = Renderer(make_tokenizer("gemma"))
    assert renderer.prompt_ids(chat) == renderer.prompt_ids(folded)


@pytest.mark.parametrize(("style", "has"), [("chatml", True), ("llama2", True), ("gemma", False), ("none", True)])
def test_a_template_that_raises_on_the_system_role_is_told_from_those_that_write_it(
    style: str, has: bool, make_tokenizer: Any
) -> None:
    assert Renderer(make_tokenizer(style)).has_system_role is has


def test_a_template_that_drops_the_system_message_counts_as_one_without_the_role(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
    renderer = Renderer(tokenizer)
    assert not renderer.has_system_role
    assert _text(renderer, SYSTEM_CHAT) == "Be brief.\n\nWhy?"


@pytest.mark.parametrize(
    ("style", "end"), [("chatml", "<|im_end|>"), ("llama2", "</s>"), ("gemma", "<end_of_turn>"), ("none", "</s>")]
)
def test_the_turn_is_closed_by_the_templates_own_token(style: str, end: str, make_tokenizer: Any) -> None:
    renderer = Renderer(make_tokenizer(style))
    assert renderer.end_id == renderer.tokenizer.convert_tokens_to_ids(end)


def test_a_tokenizer_without_any_end_token_is_refused_with_the_remedy(make_tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="set eos_token"):
        _ = Renderer(make_tokenizer("none", eos_token=None)).end_id


def test_a_tokenizer_with_several_templates_is_refused(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = {"default": "a", "tool_use": "b"}
    with pytest.raises(ModelError, match="several chat templates"):
        Renderer(tokenizer)


def test_only_a_model_without_a_template_is_rendered_plainly(renderer: Renderer) -> None:
    assert renderer.is_plain is (renderer.tokenizer.chat_template is None)
    assert (renderer.template == PLAIN_TEMPLATE) is renderer.is_plain


@pytest.mark.parametrize("text", ["Hello there.", "  two  spaces\n\nand lines ", "naïve 東京 🙂", ""])
def test_a_completion_comes_back_as_it_was(text: str, renderer: Renderer) -> None:
    assert renderer.decode(renderer.completion_ids(text, ended=True)) == text
    assert renderer.completion_ids(text, ended=True) == [*renderer.completion_ids(text, ended=False), renderer.end_id]


def test_prompt_and_completion_together_are_the_ids_of_the_whole_conversation(make_tokenizer: Any) -> None:
    renderer = Renderer(make_tokenizer("chatml"))
    whole = renderer.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], tokenize=False
    )
    made = renderer.prompt_ids(user("Why?")) + renderer.completion_ids("So.", ended=True)
    assert renderer.tokenizer.decode(made) == whole.removesuffix("\n")


def test_the_hash_is_that_of_the_renderer_and_of_no_chat(renderer: Renderer, make_tokenizer: Any) -> None:
    styles = ("chatml", "llama2", "gemma", "none")
    assert renderer.hash in {Renderer(make_tokenizer(style)).hash for style in styles}
    assert len({Renderer(make_tokenizer(style)).hash for style in styles}) == len(styles)


def test_the_hash_changes_with_the_template_and_with_the_end_token(make_tokenizer: Any) -> None:
    known = Renderer(make_tokenizer("chatml")).hash
    other = make_tokenizer("chatml")
    other.chat_template = other.chat_template.replace("assistant", "bot")
    assert Renderer(other).hash != known
    assert Renderer(make_tokenizer("none", eos_token="<s>")).hash != Renderer(make_tokenizer("none")).hash


def test_a_template_that_prints_the_date_prints_the_same_one_every_day(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = "{{ date_string }}|" + tokenizer.chat_template
    assert _text(Renderer(tokenizer), user("Why?")).startswith("26 Jul 2024|")


def test_rendering_goes_through_this_module_alone() -> None:
    source = Path(__file__).parents[2] / "src" / "b4g"
    users = {path.name for path in source.rglob("*.py") if ".apply_chat_template(" in path.read_text("utf-8")}
    assert users == {"chat.py"}


def test_a_template_that_prints_todays_date_prints_the_pinned_one(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}|" + tokenizer.chat_template
    renderer = Renderer(tokenizer)
    assert renderer.decode(renderer.prompt_ids(user("hello"))).startswith(f"{PINNED_DATE}|")


@pytest.mark.parametrize("read", [last_user, lambda chat: replace_user(chat, "x")])
def test_a_chat_without_a_user_message_is_refused_in_plain_words(read: Any) -> None:
    with pytest.raises(DataError, match="no user message"):
        read((Message("system", "be kind"),))
