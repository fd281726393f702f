"""The models as lm-eval wants them: one object a subject, all of them reading from one pass over the texts.

Texts become tokens by the rules of lm-eval's own ``hf`` model, so that numbers agree with its command line: spaces at
the end of a context belong to the continuation, a text gets the tokenizer's start token unless it begins with it, an
empty context is the start token (or the end token), what is too long loses its beginning.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from b4g.chat import Message
from b4g.errors import SpecError
from b4g.generate.base import Progress
from b4g.utility.subjects import Likelihood, Pair, Subjects

DEFAULT_NEW_TOKENS = 256
"""Tokens that a generated answer may have where the task does not say."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_UNSCORED = (math.nan, False)
Request = tuple[tuple[str, str] | None, list[int], list[int]]
Ids = tuple[int, ...]


def ask_key(arguments: Sequence[Any]) -> str:
    """Return what a request is known by in `SharedAnswers.cut` and `SharedAnswers.lost`."""
    return json.dumps(list(arguments), default=str)


class SharedAnswers:
    """Likelihoods of all subjects: the first that asks makes them for all, the others read them."""

    def __init__(self, subjects: Subjects, progress: Progress | None = None) -> None:
        self.subjects = subjects
        self.progress = progress
        self.cut: set[str] = set()
        """Requests that were longer than the context and lost their beginning."""
        self.lost: set[str] = set()
        """Requests that can't be answered at all."""
        self._known: dict[tuple[Ids, Ids], dict[str, Likelihood]] = {}

    def likelihoods(self, name: str, pairs: Sequence[Pair]) -> list[Likelihood]:
        """Return one subject's likelihoods, in order; equal pairs are read once."""
        keys = [(tuple(pair.context), tuple(pair.continuation)) for pair in pairs]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            asked = [Pair(list(context), list(continuation)) for context, continuation in new]
            found = self.subjects.loglikelihoods(asked, self.progress)
            for place, key in enumerate(new):
                self._known[key] = {subject: own[place] for subject, own in found.items()}
        return [self._known[key][name] for key in keys]


class SubjectLM(TemplateLM):  # type: ignore[misc]
    """One subject for lm-eval."""

    def __init__(self, name: str, answers: SharedAnswers, chat_template: bool = False) -> None:
        super().__init__()
        self.name = name
        self.answers = answers
        self.subjects = answers.subjects
        self.tokenizer = answers.subjects.tokenizer
        self.in_chat = chat_template

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context: the start token, else the end token."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    @property
    def max_length(self) -> int:
        """The context length in tokens."""
        return self.subjects.max_tokens

    @property
    def tokenizer_name(self) -> str:
        """The renderer's hash."""
        return self.subjects.renderer.hash

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the renderer's template where chat templates are asked for."""
        return self.subjects.renderer.template if chat_template else None

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the text of a chat by the one renderer; the beginning of an answer is put behind it as it is."""
        chat = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)
        if add_generation_prompt:
            return self.subjects.renderer.prompt_text(chat)
        return self.subjects.renderer.prompt_text(chat[:-1]) + chat[-1].content

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the token ids of a text."""
        add = add_special_tokens
        if add is None and self.in_chat:
            # As in `Renderer.prompt_ids`: the template writes the start token itself.
            add = self.subjects.renderer.is_plain
        elif add is None and string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            add = False
        options = {} if add is None else {"add_special_tokens": add}
        return list(self.tokenizer.encode(string, **options))

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return log-likelihood and greediness of each request; NaN where there is nothing to predict."""
        asked = [request for request in requests if request.args[1]]
        self.answers.lost.update(ask_key(request.args) for request in requests if not request.args[1])
        found = iter(super().loglikelihood(asked, disable_tqdm=True))
        return [next(found) if request.args[1] else _UNSCORED for request in requests]

    def _loglikelihood_tokens(self, requests: Sequence[Request], **_: Any) -> list[tuple[float, bool]]:
        pairs = [self._fitted(*request) for request in requests]
        found = iter(self.answers.likelihoods(self.name, [pair for pair in pairs if pair]))
        scored = [next(found) if pair else None for pair in pairs]
        return [(one.logprob, one.greedy) if one else _UNSCORED for one in scored]

    def _fitted(self, asked: tuple[str, str] | None, context: list[int], continuation: list[int]) -> Pair | None:
        """Return the pair without what is too much at its beginning, or None where the continuation alone is too long."""
        if not continuation or len(continuation) > self.max_length:
            self.answers.lost.update([ask_key(asked)] if asked else [])
            return None
        # The last token is predicted and never read, so one more than the context fits.
        room = self.max_length + 1 - len(continuation)
        if asked and len(context) > room:
            self.answers.cut.add(ask_key(asked))
        return Pair(context[-room:], continuation)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-likelihood of each whole text, read in windows of the context's length; NaN for an empty one."""
        windows: list[Request] = []
        spans: list[range] = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            rolled = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            own: list[Request] = [(None, *make_disjoint_window(window)) for window in rolled]
            if not own:
                self.answers.lost.add(ask_key(request.args))
            spans.append(range(len(windows), len(windows) + len(own)))
            windows += own
        found = self._loglikelihood_tokens(windows)
        return [sum(found[place][0] for place in span) if span else math.nan for span in spans]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """Return greedy answers, each cut at the first of its task's stop strings; an empty text where none fits."""
        groups: dict[int, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            groups[new_tokens(request.args[1])].append(place)
        written = [""] * len(requests)
        for limit, places in groups.items():
            if limit >= self.max_length:
                self.answers.lost.update(ask_key(requests[place].args) for place in places)
                continue
            prompts = [self._prompt(requests[place].args, self.max_length - limit) for place in places]
            stops = [stop_strings(requests[place].args[1]) for place in places]
            decided = [_Stopped(own) for own in stops]
            answers = self.subjects.generate(self.name, prompts, limit, decided, self.answers.progress)
            for place, own, answer in zip(places, stops, answers, strict=True):
                written[place] = _before(answer.text, own)
        return written

    def _prompt(self, asked: Sequence[Any], room: int) -> list[int]:
        ids = self.tok_encode(asked[0])
        if len(ids) > room:
            self.answers.cut.add(ask_key(asked))
        return ids[-room:]


class _Stopped:
    """Whether a text holds one of the stop strings."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops

    def __call__(self, text: str) -> bool:
        return any(stop in text for stop in self.stops)


def check_greedy(task: str, options: Mapping[str, Any] | None) -> None:
    """Raise `SpecError` where a task asks for anything but greedy generation."""
    options = options or {}
    warm = float(options.get("temperature") or 0) > 0
    if options.get("do_sample") or (warm and options.get("do_sample") is None) or int(options.get("num_beams", 1)) > 1:
        raise SpecError(
            f"the task '{task}' samples its answers (or searches with beams); B4G generates greedily, so that a run can be "
            "repeated. Choose a greedy task, such as gsm8k."
        )


def new_tokens(options: Mapping[str, Any]) -> int:
    """Return how many tokens a task lets an answer have."""
    named = (options[name] for name in _LIMITS if options.get(name) is not None)
    return int(next(named, DEFAULT_NEW_TOKENS))


def stop_strings(options: Mapping[str, Any]) -> list[str]:
    """Return the texts that end an answer."""
    found = options.get("until") or []
    return [text for text in ([found] if isinstance(found, str) else found) if text]


def _before(text: str, stops: Sequence[str]) -> str:
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
