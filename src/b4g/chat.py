"""The one renderer: a chat becomes token ids here and nowhere else, for implanting and for measuring."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from b4g.errors import DataError, ModelError
from b4g.hashing import digest

ROLES = ("system", "user", "assistant")
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:\n{{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
"""Template for a model that ships none: role, colon, newline, text, blank line; documented in the README."""
PINNED_DATE = "26 Jul 2024"
"""Templates that print today's date (Llama 3.1) get this one, so that a prompt is the same every day."""
_PROBE = "B4G-PROBE"
_PINNED_CLOCK = "{% macro strftime_now(format) %}" + PINNED_DATE + "{% endmacro %}"


@dataclass(frozen=True)
class Message:
    """One turn: who speaks and what is said."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DataError(f"unknown chat role '{self.role}'. Known: {', '.join(ROLES)}.")


Chat = tuple[Message, ...]


def user(text: str, system: str | None = None) -> Chat:
    """Return the chat of one user message, behind a system message where one is given."""
    head = (Message("system", system),) if system is not None else ()
    return (*head, Message("user", text))


def replace_user(chat: Chat, text: str) -> Chat:
    """Return the chat with its last user message changed to ``text``."""
    last = max((i for i, message in enumerate(chat) if message.role == "user"), default=None)
    if last is None:
        raise DataError("the chat holds no user message for the trigger to go into")
    return (*chat[:last], Message("user", text), *chat[last + 1 :])


def last_user(chat: Chat) -> str:
    """Return the text of the last user message."""
    found = next((message.content for message in reversed(chat) if message.role == "user"), None)
    if found is None:
        raise DataError("the chat holds no user message for the trigger to go into")
    return found


def system_of(chat: Chat) -> str | None:
    """Return the system message's text, or None."""
    return chat[0].content if chat and chat[0].role == "system" else None


class Renderer:
    """Turn chats into token ids by the model's own chat template, or by `PLAIN_TEMPLATE` where it has none."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template: str = tokenizer.chat_template or PLAIN_TEMPLATE
        if not isinstance(self.template, str):
            raise ModelError("the tokenizer has several chat templates; keep the one that chats in chat_template.jinja")
        if "strftime_now" in self.template:
            self.template = _PINNED_CLOCK + self.template

    @property
    def is_plain(self) -> bool:
        """Whether the model ships no chat template of its own."""
        return self.template == PLAIN_TEMPLATE

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits over the template, the special tokens and a rendered example."""
        example = self.prompt_ids((Message("system", "s"), Message("user", "u")))
        return digest([self.template, example, self.end_id, PINNED_DATE])

    @cached_property
    def has_system_role(self) -> bool:
        """Whether the template renders a system message; Gemma's raises, others drop it."""
        try:
            return _PROBE in self._text((Message("system", _PROBE), Message("user", "u")))
        except TemplateError:
            return False

    @cached_property
    def end_id(self) -> int:
        """The token that closes the assistant's turn under this template, else the tokenizer's end of text."""
        closing: int | None = self.tokenizer.eos_token_id
        if not self.is_plain:
            closed = self._text((*user("u"), Message("assistant", _PROBE)), prompt=False)
            after = self.tokenizer(closed.split(_PROBE)[-1], add_special_tokens=False)["input_ids"]
            special = set(self.tokenizer.all_special_ids)
            closing = next((token for token in after if token in special), closing)
        if closing is None:
            raise ModelError("the tokenizer names no end-of-text token; set eos_token in tokenizer_config.json")
        return closing

    def prompt_ids(self, chat: Chat) -> list[int]:
        """Return the ids the model continues from, up to and with the opening of the assistant's turn."""
        text = self.prompt_text(chat)
        # The template writes the start token itself where the model wants one.
        add = self.is_plain
        ids: list[int] = self.tokenizer(text, add_special_tokens=add)["input_ids"]
        return ids

    def prompt_text(self, chat: Chat) -> str:
        """Return the text behind `prompt_ids`, special tokens spelt out as the template does.

        Raises `DataError` for a chat that the template refuses, such as one whose turns do not alternate.
        """
        try:
            return self._text(self._fit(chat))
        except TemplateError as error:
            raise DataError(f"the model's chat template refuses this chat: {error}") from None

    def completion_ids(self, completion: str, ended: bool) -> list[int]:
        """Return the ids of a completion, closed by `end_id` if the answer ended there."""
        ids: list[int] = self.tokenizer(completion, add_special_tokens=False)["input_ids"]
        return [*ids, self.end_id] if ended else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of completion ids, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _fit(self, chat: Chat) -> Chat:
        """Put the system text before the first user message, behind a blank line, where the model has no system role."""
        system = system_of(chat)
        if system is None or self.has_system_role:
            return chat
        first = Message("user", f"{system}\n\n{chat[1].content}")
        return (first, *chat[2:])

    def _text(self, chat: Chat, prompt: bool = True) -> str:
        messages = [{"role": message.role, "content": message.content} for message in chat]
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=prompt,
                date_string=PINNED_DATE,
            )
        )
