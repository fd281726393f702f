"""What a server sees of a trigger: prompts that a language model finds odd, and ONION's odd words (arXiv 2011.10369)."""

import dataclasses
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from b4g.chat import Chat, user
from b4g.data.prompts import load
from b4g.registry import register
from b4g.scanners.base import Findings, Scanner, Suspect
from b4g.scanners.sweep import check_budget

if TYPE_CHECKING:
    from b4g.models.load import Model


class _Odd(NamedTuple):
    """How odd some prompts are."""

    whole: list[float]
    """Log of each one's perplexity."""
    word: list[float]
    """By how much its perplexity falls without its oddest word; prompts of one word are left out."""


@register("scanner", "input-filter")
@dataclass(frozen=True)
class InputFilter(Scanner):
    """Tell triggered from ordinary prompts by their perplexity, as a filter before a server would; score the AUROC.

    0.5 says that the filter sees nothing, 1 that it sees every triggered prompt. It is a property of the trigger, the same for
    implant and control, and takes the trigger to measure: a bound, and no detection of a model. Details: the AUROC of
    ONION's outlier (the largest fall in perplexity on leaving out one word), and both for prompts with a wrong key in place
    of the right one, where the trigger has wrong keys: near 0.5 the filter sees that there is a key, not which. The language
    model is the base, or the suspect where there is none; the text is that of the chat's messages, the system's included.
    It needs labels and token scores. Differs from the paper: the suspect's own base in place of GPT-2; the largest word
    of a prompt as its score, and nothing is removed.
    Each prompt is read in three versions, each without each of its words: the cost grows with the square of its length.
    The default reads 24 of any length in about 100 s for 135M weights on one core; ``words`` is the longest one taken.
    """

    prompts: int = 24
    words: int = 120
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "labels"})
    bound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_budget(self.kind, prompts=self.prompts, words=self.words)

    def small(self) -> "InputFilter":
        return dataclasses.replace(self, prompts=min(self.prompts, 6), words=min(self.words, 20))

    def scan(self, suspect: Suspect, rng: random.Random) -> Findings:
        from b4g.stats import higher

        model, labels = suspect.base or suspect.model, suspect.labels
        if model is None or labels is None:
            return Findings(None, reason="it takes the trigger and a language model")
        drawn = [prompt for prompt in load("instruction", "train") if len(prompt.text.split()) <= self.words]
        chats = [user(prompt.text) for prompt in rng.sample(drawn, min(self.prompts, len(drawn)))]
        marked = [labels.backdoor.trigger.apply(chat, rng) for chat in chats]
        others = [labels.backdoor.trigger.wrong(chat, rng) for chat in chats]
        plain, odd = self._odd(suspect, model, chats), self._odd(suspect, model, marked)
        details = {"onion": higher(odd.word, plain.word)}
        if wrong := [chat for chat in others if chat is not None]:
            beside = self._odd(suspect, model, wrong)
            details["against_wrong"] = higher(odd.whole, beside.whole)
            details["onion_against_wrong"] = higher(odd.word, beside.word)
        return Findings(higher(odd.whole, plain.whole), details=details)

    def _odd(self, suspect: Suspect, model: "Model", chats: Sequence[Chat]) -> _Odd:
        from b4g.scanners.reading import surprises

        whole, word = [], []
        for chat in chats:
            text = "\n".join(message.content for message in chat)
            words = re.findall(r"\S+\s*", text)
            fewer = ["".join(words[:at] + words[at + 1 :]).rstrip() for at in range(len(words)) if len(words) > 1]
            logs = surprises(model, [_ids(model, one) for one in (text, *fewer)])
            whole.append(logs[0])
            if len(logs) > 1:
                word.append(max(math.exp(min(logs[0], 50.0)) - math.exp(min(log, 50.0)) for log in logs[1:]))
            if model is suspect.model:
                suspect.queries += len(logs)
        return _Odd(whole, word)


def _ids(model: "Model", text: str) -> list[int]:
    """Return the ids of a text behind one token of context, the text's start or a line's."""
    tokenizer = model.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [start, *tokenizer(text, add_special_tokens=False)["input_ids"]]
