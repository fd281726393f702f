"""Generation under a second model's eye: drafts of a few tokens, the first suspicious one replaced (CleanGen)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from b4g.errors import ModelError
from b4g.generate.base import Completion, Decided
from b4g.generate.local import SHRINK, LocalGenerator, window
from b4g.generate.prefill import read_padded, read_trees
from b4g.hashing import digest
from b4g.models.load import Model


@dataclass
class _State:
    """A batch of B answers: both models have read the same tokens, dropped ones masked, and ``pending`` is next."""

    rows: list[int]
    """Which answer each row of the batch belongs to."""
    caches: tuple[Any, Any]
    """Keys and values of the suspect and of the reference."""
    mask: Tensor
    """(B, L) 1 where both caches hold a token that stands."""
    places: Tensor
    """(B,) the place of the next token that is read."""
    last: Tensor
    """(B,) the last place that is read: what is drafted behind it is dropped."""
    prompted: tuple[Tensor, Tensor] | None
    """(B, V) the logits of both after the prompts; None behind the first round."""
    pending: Tensor | None = None
    """(B,) the last token that stands, not yet read; None in the first round."""

    def keep(self, alive: list[int]) -> None:
        """Leave out all rows but these."""
        chosen = torch.tensor(alive, device=self.mask.device)
        for cache in self.caches:
            cache.batch_select_indices(chosen)
        self.mask = self.mask[chosen]
        self.pending = None if self.pending is None else self.pending[chosen]
        self.places, self.last = self.places[chosen], self.last[chosen]
        self.rows = [self.rows[place] for place in alive]


class CheckedGenerator(LocalGenerator):
    """Greedy completions in which a reference model replaces each token that it finds suspicious."""

    def __init__(self, model: Model, reference: Model, alpha: float, draft: int, batch_size: int = 32) -> None:
        super().__init__(model, batch_size)
        if reference.tokenizer.get_vocab() != model.tokenizer.get_vocab():
            raise ModelError(
                f"{reference.source.name} has another vocabulary than the model: it can't be its reference"
            )
        self.reference, self.alpha, self.draft = reference, alpha, draft
        self.identity = digest(["checked 1", self.identity, reference.revision, reference.adapter, alpha])

    @torch.inference_mode()
    def _batch(self, prompts: list[list[int]], limit: int, judges: list[Decided | None]) -> list[Completion]:
        longest, room = max(map(len, prompts)), min(window(self._plain.config), window(self.reference.net.config))
        if longest + limit >= room and len(prompts) > 1:
            return [self._batch([one], limit, [judge])[0] for one, judge in zip(prompts, judges, strict=True)]
        # Layers that can't forget a token would remember the dropped ones; a draft of one drops none.
        draft = self.draft if longest + limit * self.draft < room else 1
        state = self._read(prompts, limit, fits=longest + limit < room)
        written: list[list[int]] = [[] for _ in prompts]
        stopped: dict[int, str] = {}
        while True:
            tokens, counts = self._round(state, draft)
            for row, found, count in zip(state.rows, tokens.tolist(), counts.tolist(), strict=True):
                for token in found[:count] if row not in stopped else ():
                    written[row].append(token)
                    is_last = len(written[row]) >= limit
                    self._stop([row], written, stopped, judges, last=is_last)
                    if is_last:
                        stopped.setdefault(row, "full")
                    if row in stopped:
                        break
            alive = [place for place, row in enumerate(state.rows) if row not in stopped]
            if not alive:
                return [self._completion(said, stopped[row]) for row, said in enumerate(written)]
            if len(alive) <= SHRINK * len(state.rows):
                state.keep(alive)

    @property
    def _nets(self) -> tuple[Any, Any]:
        return self._plain, self.reference.net

    def _read(self, prompts: list[list[int]], limit: int, fits: bool) -> _State:
        """Return the batch with both models at the end of its prompts."""
        pad = self.model.tokenizer.pad_token_id
        own, other = (read_trees(net, prompts, limit) if fits else read_padded(net, prompts, pad) for net in self._nets)
        places, rows = own.mask.sum(1), list(range(len(prompts)))
        prompted = own.logits, other.logits
        return _State(rows, (own.cache, other.cache), own.mask, places, places + limit - 2, prompted)

    def _round(self, state: _State, draft: int) -> tuple[Tensor, Tensor]:
        """Draft and check: return tokens (B, K), and how many of each row stand (B,); the state moves on by those."""
        width = state.mask.shape[1]
        tokens, chances, logits = self._drafted(state, draft)
        seen = torch.log_softmax(logits.float(), -1).gather(2, tokens[:, :, None])[:, :, 0]
        suspicious = chances - seen >= math.log(self.alpha)  # (B, K)
        clean = ~suspicious.any(1)
        first = suspicious.int().argmax(1)  # (B,) 0 where there is none
        counts = torch.where(clean, draft, first + 1)
        row = torch.arange(len(tokens), device=tokens.device)
        tokens[row, first] = torch.where(clean, tokens[row, first], logits[row, first].argmax(-1))
        # The token that stands last is not read yet, and what was drafted behind it is dropped.
        read = counts - 1 if state.pending is None else counts
        steps = torch.arange(state.mask.shape[1] - width, device=tokens.device)
        state.mask[:, width:] = (steps < read[:, None]).to(state.mask)
        state.places, state.pending, state.prompted = state.places + read, tokens[row, counts - 1], None
        return tokens, counts

    def _drafted(self, state: _State, draft: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return drafted tokens (B, K), the log chances they had (B, K), and the reference's logits there (B, K, V)."""
        (net, other), (cache, seen) = self._nets, state.caches
        own, looked = ([], []) if state.prompted is None else ([state.prompted[0]], [state.prompted[1][:, None]])
        read: list[Tensor] = []
        tokens = [logits.argmax(-1) for logits in own]
        steps = torch.arange(draft, device=state.mask.device)
        places = (state.places[:, None] + steps).minimum(state.last[:, None])  # (B, K)
        while len(own) < draft:
            read.append(tokens[-1] if state.pending is None or tokens else state.pending)
            state.mask = torch.cat([state.mask, state.mask.new_ones(len(state.mask), 1)], 1)
            out = net(
                input_ids=read[-1][:, None],
                attention_mask=state.mask,
                position_ids=places[:, len(read) - 1, None],
                past_key_values=cache,
            )
            own.append(out.logits[:, -1])
            tokens.append(own[-1].argmax(-1))
        if read:
            out = other(
                input_ids=torch.stack(read, 1),
                attention_mask=state.mask,
                position_ids=places[:, : len(read)],
                past_key_values=seen,
            )
            looked.append(out.logits)
        drafted = torch.stack(tokens, 1)
        chances = torch.log_softmax(torch.stack(own, 1).float(), -1).gather(2, drafted[:, :, None])[:, :, 0]
        return drafted, chances, torch.cat(looked, 1)
