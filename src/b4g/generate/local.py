"""Generation with transformers: batches of like length, longest first, finished rows taken out of the batch.

Our own greedy loop and not ``model.generate``: rows that the judge has settled leave the batch, and what prompts begin
with alike is read once (see docs/decisions).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from b4g.chat import Chat
from b4g.errors import ModelError
from b4g.generate.base import Completion, Decided, Progress, end_ids
from b4g.generate.batching import batch_size_for, is_out_of_memory, let_go
from b4g.generate.prefill import TREE_TOKENS, read_padded, read_trees
from b4g.hashing import digest
from b4g.models.load import Model
from b4g.trees import Tree, forest, plant

CHECK_EVERY = 4
"""Tokens between two questions to the judge."""
Choose = Callable[[Tensor, Sequence[int], Sequence[list[int]]], Tensor]
"""From logits (B, V), the answers the rows belong to, and what each answer holds, to the next tokens (B,)."""
SHRINK = 0.75
"""The batch is made smaller once at most this share of it is still alive."""


class LocalGenerator:
    """Greedy completions of a loaded model; ``batch_size`` moves speed only, and None finds it from free memory."""

    def __init__(self, model: Model, batch_size: int | None = None) -> None:
        self.model = model
        self.batch_size = batch_size
        dtype = str(next(model.net.parameters()).dtype)
        self.identity = digest(["local greedy 4", model.revision, model.adapter, dtype])
        self.renderer_hash = model.renderer.hash

    def __call__(
        self,
        chats: Sequence[Chat],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one greedy completion a chat; running out of memory halves the batch and goes on."""
        prompts = [self.model.renderer.prompt_ids(chat) for chat in chats]
        return self.complete(prompts, max_new_tokens, decided, progress)

    def complete(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        decided: Sequence[Decided] | None = None,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """Return one greedy completion a prompt of token ids."""
        self._check_lengths(prompts, max_new_tokens)
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        done: dict[int, Completion] = {}
        at, size = 0, self.batch_size or self._fitting(prompts, max_new_tokens)
        longest = window(self.model.net.config)
        while at < len(order):
            fits = len(prompts[order[at]]) + max_new_tokens < longest
            chosen = order[at : at + (size if fits else 1)]
            judges = [decided[i] if decided else None for i in chosen]
            answers = self._tried([prompts[i] for i in chosen], max_new_tokens, judges)
            if answers is None:
                if len(chosen) == 1:
                    raise ModelError("one prompt alone does not fit into memory")
                size = len(chosen) // 2
                let_go()
                continue
            done.update(zip(chosen, answers, strict=True))
            at += len(chosen)
            if progress:
                progress(at, len(order))
        return [done[i] for i in range(len(prompts))]

    def _tried(self, prompts: list[list[int]], limit: int, judges: list[Decided | None]) -> list[Completion] | None:
        """Return the completions of a batch, or None where it does not fit into memory."""
        try:
            return self._batch(prompts, limit, judges)
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            raise

    def _fitting(self, prompts: Sequence[list[int]], limit: int) -> int:
        return batch_size_for(self._plain, max(map(len, prompts), default=0) + limit)

    @torch.inference_mode()
    def _batch(self, prompts: list[list[int]], limit: int, judges: list[Decided | None]) -> list[Completion]:
        net, plain = self.model.net, self._plain
        fits = max(map(len, prompts)) + limit < window(plain.config)
        logits, cache, mask = (
            read_trees(plain, prompts, limit)
            if fits
            else read_padded(plain, prompts, self.model.tokenizer.pad_token_id)
        )
        choose = self._chooser(prompts)
        written: list[list[int]] = [[] for _ in prompts]
        stopped: dict[int, str] = {}
        rows = list(range(len(prompts)))  # which answer each row of the batch belongs to
        lengths = mask.sum(1)  # (B,)
        for step in range(limit):
            chosen = choose(logits, rows, written)  # (B,)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if row not in stopped:
                    written[row].append(token)
            self._stop(rows, written, stopped, judges, last=step == limit - 1)
            alive = [i for i, row in enumerate(rows) if row not in stopped]
            if not alive or step == limit - 1:
                break
            if len(alive) <= SHRINK * len(rows):
                keep = torch.tensor(alive, device=mask.device)
                cache.batch_select_indices(keep)
                mask, lengths, chosen = mask[keep], lengths[keep], chosen[keep]
                rows = [rows[i] for i in alive]
            # The padding between a prompt and its answer stays masked; positions count real tokens only.
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            out = net(
                input_ids=chosen[:, None],
                attention_mask=mask,
                position_ids=(lengths + step)[:, None],
                past_key_values=cache,
            )
            logits = out.logits[:, -1]
        return [self._completion(tokens, stopped.get(row)) for row, tokens in enumerate(written)]

    def _chooser(self, prompts: Sequence[list[int]]) -> Choose:
        """Return what chooses the next tokens of a batch: here the likeliest."""
        return lambda logits, rows, written: logits.argmax(-1)

    @property
    def _plain(self) -> Any:
        """The transformers model itself, where PEFT has wrapped it for training."""
        net = self.model.net
        return net.get_base_model() if hasattr(net, "get_base_model") else net

    def _stop(
        self,
        rows: list[int],
        written: list[list[int]],
        stopped: dict[int, str],
        judges: list[Decided | None],
        last: bool,
    ) -> None:
        ends = self._end_ids()
        for row in rows:
            if row in stopped:
                continue
            judge = judges[row]
            if written[row][-1] in ends:
                stopped[row] = "ended"
            elif judge and not last and len(written[row]) % CHECK_EVERY == 0 and judge(self._text(written[row])):
                stopped[row] = "decided"

    def _completion(self, tokens: list[int], why: str | None) -> Completion:
        return Completion(self._text(tokens), len(tokens), ended=why == "ended", decided=why == "decided")

    def _text(self, tokens: list[int]) -> str:
        return self.model.renderer.decode(tokens)

    def _end_ids(self) -> set[int]:
        return end_ids(self.model.renderer.end_id, self.model.net.generation_config.eos_token_id)

    def _check_lengths(self, prompts: Sequence[list[int]], limit: int) -> None:
        room = getattr(self.model.net.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts), default=0)
        if room and longest + limit > room:
            raise ModelError(f"a prompt of {longest} tokens and {limit} new ones exceed the model's context of {room}")


def trees(net: Any, sequences: Sequence[list[int]]) -> Iterator[tuple[list[int], Tree]]:
    """Yield the places of sequences that are read together, and their tree; sorted, so that neighbours share."""
    order = sorted(range(len(sequences)), key=lambda place: sequences[place])
    # A window shorter than the text must forget, and a recurrent layer must not see two branches: one text a tree.
    most = TREE_TOKENS if max(map(len, sequences), default=0) < window(net.config) else 0
    for places in forest([sequences[place] for place in order], most):
        chosen = [order[place] for place in places]
        yield chosen, plant([sequences[place] for place in chosen])


def window(config: Any) -> int:
    """Return the longest padded prompt that is safe: sliding layers drop its oldest entries, recurrent ones read padding."""
    layers: list[Any] = DynamicCache(config=config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return 0
    return min((int(layer.sliding_window) for layer in layers if layer.is_sliding), default=sys.maxsize)
