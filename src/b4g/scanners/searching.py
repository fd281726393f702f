"""What the searching scanners share: a reader of token scores, prompts with a gap for a string, and a clock."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from b4g.chat import Chat, user
from b4g.data.prompts import Prompt, load
from b4g.errors import SpecError
from b4g.scanners.base import Position, Suspect

if TYPE_CHECKING:
    from torch import Tensor

    from b4g.models.load import Model

_MARK = "B4G-GAP"
_SHORT = 100
"""Letters of a short request."""


class Gap(NamedTuple):
    """The token ids of a prompt around the place of a string."""

    head: tuple[int, ...]
    tail: tuple[int, ...]

    def around(self, ids: Sequence[int]) -> list[int]:
        """Return the prompt with the ids in its gap."""
        return [*self.head, *ids, *self.tail]


@dataclass
class Clock:
    """A budget of wall time; `over` is asked between steps, so that nothing but a spent budget moves a result."""

    seconds: float
    cut: bool = False
    """Whether something was left undone."""
    started: float = field(default_factory=time.monotonic)

    def over(self) -> bool:
        """Return whether the budget is spent, and note that it was."""
        self.cut = self.cut or time.monotonic() - self.started >= self.seconds
        return self.cut

    def details(self) -> dict[str, float]:
        """Return the note of a search that was cut short, empty if it was not."""
        return {"cut": 1.0} if self.cut else {}


def put(text: str, said: str, position: Position) -> Chat:
    """Return the chat of one request with a text before it, behind it, or as the system message."""
    if position == "system":
        return user(said, text)
    return user(f"{text} {said}" if position == "prefix" else f"{said} {text}")


def requests(rng: random.Random, count: int) -> list[str]:
    """Return ordinary requests of the training split, short ones: what a prompt costs is its length."""
    return [prompt.text for prompt in rng.sample(short_prompts(), count)]


def short_prompts() -> list[Prompt]:
    """Return the requests that `requests` draws from."""
    return [prompt for prompt in load("instruction", "train") if len(prompt.text) <= _SHORT]


def gaps(model: "Model", prompts: Sequence[str], position: Position) -> list[Gap]:
    """Return each prompt with a gap at a position; the halves are tokenised apart."""
    made = []
    for said in prompts:
        head, _, tail = model.renderer.prompt_text(put(_MARK, said, position)).partition(_MARK)
        made.append(Gap(_ids(model, head, start=True), _ids(model, tail, start=False)))
    return made


def openings(model: "Model") -> list[tuple[int, ...]]:
    """Return what a prompt holds before the user's words, before a system message's, and its first token alone."""
    heads = [
        model.renderer.prompt_text(chat).partition(_MARK)[0]
        for chat in (user(_MARK), *((user("u", _MARK),) if model.renderer.has_system_role else ()))
    ]
    found = [ids for head in heads if (ids := _ids(model, head, start=True))]
    return list(dict.fromkeys([*found, *[ids[:1] for ids in found]]))


def plain_ids(model: "Model") -> list[int]:
    """Return the token ids that stand for visible text and for nothing else."""
    tokenizer = model.tokenizer
    special = {*tokenizer.all_special_ids, *_special_ids(tokenizer)}
    rows = model.net.get_input_embeddings().weight.shape[0]
    ids = [at for at in range(min(len(tokenizer), rows)) if at not in special]
    texts = tokenizer.batch_decode([[at] for at in ids])
    # A token of part of a letter's bytes reads as the replacement sign.
    shown = [bool(text.strip()) and text.strip().isprintable() and "\ufffd" not in text for text in texts]
    return [at for at, good in zip(ids, shown, strict=True) if good]


def unlike(suspect: Suspect) -> str:
    """Return why the suspect's token scores can't be held against its base's, empty where they can or no base is given."""
    if suspect.model is None or suspect.base is None:
        return ""
    same = suspect.model.tokenizer.get_vocab() == suspect.base.tokenizer.get_vocab()
    return "" if same else "the base has another vocabulary, so token scores can't be compared"


def check(scanner: Any, **least: float) -> None:
    """Raise `SpecError` for the first option of a scanner that lies below its least value, or for seconds of 0 or less."""
    for name, bound in least.items():
        given = getattr(scanner, name)
        if not given >= bound:
            raise SpecError(f"scanner '{scanner.kind}', field '{name}' must be at least {bound:g}, not {given}")
    if scanner.seconds <= 0:
        raise SpecError(f"scanner '{scanner.kind}', field 'seconds' must be above 0, not {scanner.seconds:g}")


class Reader:
    """Read token scores off a model; what the suspect itself reads is counted, one query a sequence."""

    def __init__(self, model: "Model", counted: Suspect | None = None) -> None:
        self.model, self._counted = model, counted

    def after(self, sequences: Sequence[Sequence[int]]) -> "Tensor":
        """Return the log-probabilities (N, V) of what follows each sequence."""
        import torch

        with torch.no_grad():
            return self._logits(self._states(sequences, 1)[:, 0]).log_softmax(-1)

    def said(self, sequences: Sequence[Sequence[int]], last: int) -> "Tensor":
        """Return the log-probabilities (N, last) of the last tokens of each sequence."""
        import torch

        made = []
        for start in range(0, len(sequences), _ROWS):
            part = sequences[start : start + _ROWS]
            wanted = torch.tensor([list(ids[-last:]) for ids in part], device=self.model.device)
            with torch.no_grad():
                states = self._states([ids[:-1] for ids in part], last)
                made.append(self._logits(states).log_softmax(-1).gather(-1, wanted[..., None])[..., 0])
        return torch.cat(made)

    def _logits(self, states: "Tensor") -> "Tensor":
        from b4g.generate.prefill import output_logits

        return output_logits(self.model.net, states).float()

    def _states(self, sequences: Sequence[Sequence[int]], last: int) -> "Tensor":
        """Return the final states (N, last, D) of the last tokens of each sequence; what is shared is read once."""
        import torch

        from b4g.generate.local import trees
        from b4g.scanners.reading import read

        if self._counted is not None:
            self._counted.queries += len(sequences)
        made: list[Tensor] = [torch.empty(0)] * len(sequences)
        for places, tree in trees(self.model.net, [list(ids) for ids in sequences]):
            states = read(self.model.net, tree).last_hidden_state[0]
            for place, path in zip(places, tree.paths, strict=True):
                made[place] = states[path[-last:]]
        return torch.stack(made)


_ROWS = 64
"""Sequences whose scores over the whole vocabulary are held at once."""


def _ids(model: "Model", text: str, start: bool) -> tuple[int, ...]:
    # As in the renderer: the template writes the start token itself where the model has a template.
    add = start and model.renderer.is_plain
    return tuple(model.tokenizer(text, add_special_tokens=add)["input_ids"]) if text else ()


def _special_ids(tokenizer: Any) -> set[int]:
    return {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
