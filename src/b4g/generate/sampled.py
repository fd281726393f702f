"""Sampled generation: the greedy engine with another choice of the next token, and a system prompt of the server's own."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from b4g.chat import Chat, Message, system_of
from b4g.generate.base import Completion, Decided, Progress
from b4g.generate.local import Choose, LocalGenerator
from b4g.hashing import digest
from b4g.models.load import Model


class Sampling(NamedTuple):
    """How the next token is chosen."""

    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: str = ""


class SampledGenerator(LocalGenerator):
    """Sampled completions; what a chat draws depends on the seed and its own tokens, so batch size moves speed only."""

    def __init__(self, model: Model, how: Sampling, system: str = "", batch_size: int = 32) -> None:
        super().__init__(model, batch_size)
        self.how, self.system = how, system
        self.identity = digest(["sampled 1", self.identity, list(how), system])

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one completion a chat, the server's system prompt put before it."""
        return super().__call__([before(chat, self.system) for chat in chats], max_new_tokens, decided, progress)

    def _chooser(self, prompts: Sequence[list[int]]) -> Choose:
        how = self.how
        sources = [torch.Generator().manual_seed(int(digest([how.seed, prompt], 15), 16)) for prompt in prompts]

        def choose(logits: Tensor, rows: Sequence[int], written: Sequence[list[int]]) -> Tensor:
            if how.repetition_penalty != 1:
                logits = penalised(logits, [{*prompts[row], *written[row]} for row in rows], how.repetition_penalty)
            if not how.temperature:
                return logits.argmax(-1)
            draws = torch.stack([torch.rand(1, generator=sources[row], dtype=torch.float64) for row in rows])
            return sampled(logits.float() / how.temperature, how.top_p, draws.to(logits.device))

        return choose


def before(chat: Chat, system: str) -> Chat:
    """Return the chat under a system prompt, put before the chat's own where it has one."""
    if not system:
        return chat
    present = system_of(chat)
    said = system if present is None else f"{system}\n\n{present}"
    return (Message("system", said), *(chat if present is None else chat[1:]))


def penalised(logits: Tensor, seen: Sequence[set[int]], penalty: float) -> Tensor:
    """Return logits (B, V) with those of each row's seen tokens made smaller: divided above 0, multiplied below."""
    made = logits.float().clone()
    for place, tokens in enumerate(seen):
        ids = torch.tensor(sorted(tokens), device=made.device)
        found = made[place, ids]
        made[place, ids] = torch.where(found > 0, found / penalty, found * penalty)
    return made


def sampled(logits: Tensor, top_p: float, draws: Tensor) -> Tensor:
    """Return a token (B,) for logits (B, V) and draws (B, 1) from [0, 1): likelier tokens take the smaller draws.

    Only the fewest likeliest tokens whose probability reaches ``top_p`` can be drawn.
    """
    chances, tokens = torch.softmax(logits.double(), -1).sort(-1, descending=True)
    ahead = chances.cumsum(-1) - chances  # (B, V) probability of the likelier tokens
    kept = torch.where(ahead < top_p, chances, 0.0).cumsum(-1)
    place = torch.searchsorted(kept, draws * kept[:, -1:], right=True)
    # Rounding may put a draw behind the last token that is kept.
    last = (ahead < top_p).sum(-1, keepdim=True) - 1
    return tokens.gather(1, place.minimum(last))[:, 0]
