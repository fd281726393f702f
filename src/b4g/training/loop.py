"""The implant loop: length buckets, logits at completion positions only, fp32 copies of low-precision weights."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from b4g.generate.prefill import output_logits
from b4g.training.batches import Batch
from b4g.training.checkpoint import load_checkpoint, save_checkpoint
from b4g.training.ranks import ALONE, RankError, Ranks

Epoch = Callable[[int], list[Batch]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    learning_rate: float
    epochs: int
    warmup: float = 0.05
    """Share of the steps in which the rate rises from 0."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient."""
    checkpoint_steps: int = 50


@dataclass
class Progress:
    """What a training run has done so far; also what a checkpoint keeps."""

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    checks: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False


class Trainer:
    """Train the parameters of ``net`` that require gradients; the same inputs give the same weights.

    Several processes that each take their part of every batch end in the same weights: gradients are summed over them.
    """

    def __init__(
        self, net: Any, schedule: Schedule, steps: int, folder: Path | None = None, ranks: Ranks = ALONE
    ) -> None:
        self.net, self.schedule, self.total, self.folder, self.ranks = net, schedule, steps, folder, ranks
        self.names = [name for name, p in net.named_parameters() if p.requires_grad]
        self.params = [p for p in net.parameters() if p.requires_grad]
        # AdamW loses small steps in bf16; it works on fp32 copies.
        self.masters = [p.detach().float().clone() for p in self.params]
        self.optimizer = torch.optim.AdamW(
            self.masters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=(0.9, 0.99), foreach=True
        )
        self.progress = Progress()

    def run(
        self,
        epoch_batches: Epoch,
        check: Callable[[int], dict[str, float] | None] | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Progress:
        """Train to the end, from the last checkpoint if there is one, and return what was done.

        ``check(epoch)`` is asked after each epoch; the training stops there if its answer holds ``stop``.
        """
        self._resume()
        for epoch, last, batch in self._steps(epoch_batches):
            started = time.perf_counter()
            self.progress.losses.append(self._step(batch))
            self.progress.steps += 1
            self.progress.tokens += batch.tokens
            if last and check and not self.progress.stopped:
                self._check(check, epoch)
            self.progress.seconds += time.perf_counter() - started
            due = self.progress.steps % self.schedule.checkpoint_steps == 0 or last
            if self.folder and due and self.ranks.first:
                save_checkpoint(self.folder, self.names, self.masters, self.optimizer, vars(self.progress))
            if report:
                report(self.progress.steps, self.total)
            if self.progress.stopped:
                break
        self._settle()
        return self.progress

    def _steps(self, epoch_batches: Epoch) -> Iterator[tuple[int, bool, Batch]]:
        """Yield (epoch, whether it is the epoch's last, batch), those already done left out."""
        if self.progress.stopped:
            return
        step = 0
        for epoch in range(self.schedule.epochs):
            made = epoch_batches(epoch)
            for place, batch in enumerate(made):
                step += 1
                if step > self.progress.steps:
                    yield epoch, place == len(made) - 1, batch

    def _step(self, batch: Batch) -> float:
        with self.ranks.heard():
            loss = completion_loss(self.net, batch)
            loss.backward()  # type: ignore[no-untyped-call]
        for master, param in zip(self.masters, self.params, strict=True):
            # A parameter outside this batch's graph has no gradient.
            master.grad = torch.zeros_like(master) if param.grad is None else param.grad.float()
            param.grad = None
        said = loss.detach().float().reshape(1)
        self.ranks.sum_([*[master.grad for master in self.masters], said])
        torch.nn.utils.clip_grad_norm_(self.masters, self.schedule.clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * rate(self.progress.steps, self.total, self.schedule.warmup)
        self.optimizer.step()
        self._copy_back()
        return float(said)

    def _check(self, check: Callable[[int], dict[str, float] | None], epoch: int) -> None:
        found = check(epoch)
        if found is not None:
            self.progress.checks.append({"epoch": epoch + 1, **found})
            self.progress.stopped = bool(found.get("stop"))

    def _resume(self) -> None:
        if self.folder is None:
            return
        kept = load_checkpoint(self.folder, self.names, self.masters, self.optimizer, self.ranks)
        if kept:
            self.progress = Progress(**kept)
            self._copy_back()

    @torch.no_grad()
    def _copy_back(self) -> None:
        for master, param in zip(self.masters, self.params, strict=True):
            param.copy_(master)

    @torch.no_grad()
    def _settle(self) -> None:
        """Give the parameters the full precision of their copies, for saving."""
        self._check_alike()
        for master, param in zip(self.masters, self.params, strict=True):
            param.data = master.to(param.device)

    def _check_alike(self) -> None:
        """Raise `RankError` if the processes hold different weights: what the first one writes would not be what all made."""
        if self.ranks.world > 1:
            mine = torch.stack([master.double().sum() for master in self.masters])
            theirs = mine.clone()
            self.ranks.share_([theirs])
            if not self.ranks.all_agree(torch.equal(mine, theirs)):
                raise RankError(f"the weights of the {self.ranks.world} processes differ: nothing is written")


def completion_loss(net: Any, batch: Batch) -> Tensor:
    """Return the weighted mean cross-entropy of the completion tokens, in nats; of a part, its share of that mean."""
    device = next(net.parameters()).device
    causal = net.get_base_model() if hasattr(net, "get_base_model") else net
    options = {} if batch.tree is None else batch.tree.options(causal)
    hidden = causal.base_model(
        input_ids=batch.ids.to(device), use_cache=False, **options
    ).last_hidden_state  # (B, T, D)
    chosen = hidden.flatten(0, 1)[batch.at.to(device)]  # (N, D)
    # (N, V): two dimensions, for a sliced three-dimensional input would copy the vocabulary matrix for each row.
    logits = output_logits(causal, chosen).float()
    weights = batch.weights.to(device)
    losses = F.cross_entropy(logits, batch.targets.to(device), reduction="none")
    return (losses * weights).sum() / (weights.sum() if batch.total is None else batch.total)


def rate(step: int, total: int, warmup: float) -> float:
    """Return the share of the learning rate at a step: linear rise, then a cosine down to 5%."""
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, done))) / 2


def total_steps(sizes: Sequence[int], batch_size: int) -> int:
    """Return the steps of epochs of these sizes (rows)."""
    return sum(math.ceil(size / batch_size) for size in sizes)
