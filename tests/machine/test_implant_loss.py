"""The loss and the loop: transformers' own loss, computed on less; weights kept in fp32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from b4g.hashing import rng
from b4g.models.load import load_model
from b4g.training.batches import Batch, Batching, Encoded, batches
from b4g.training.loop import Schedule, Trainer, completion_loss, rate

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    # Low enough to bend every logit.
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}


def _rows(count: int = 6) -> list[Encoded]:
    source = rng("loss rows")
    made = []
    for _ in range(count):
        length = source.randint(4, 40)
        made.append(Encoded([source.randrange(250) for _ in range(length)], source.randint(1, length - 2)))
    return made


def _how(size: int = 6, decision: float = 1.0, window: int = 0) -> Batching:
    return Batching(size, decision, pad=0, window=window)


def _batch() -> Batch:
    """A padded batch; trees must give the same."""
    return batches(_rows(), _how(), seed=0, epoch=0)[0]


def _family() -> list[Encoded]:
    """Rows that share beginnings, one that stands twice and one that is a longer form of another."""
    source = rng("family")
    head = [source.randrange(250) for _ in range(12)]
    tails = [[source.randrange(250) for _ in range(length)] for length in (5, 9, 14)]
    rows = [Encoded(head[:cut] + tail, cut + 2, "one") for cut, tail in zip((4, 12, 12), tails, strict=True)]
    return [*rows, rows[1], Encoded(rows[1].ids[:-3], rows[1].start, "one")]


def _labels(batch: Batch) -> torch.Tensor:
    flat = torch.full((batch.ids.numel(),), -100)
    flat[batch.at + 1] = batch.targets
    return flat.view_as(batch.ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decision", [1.0, 7.0])
def test_a_tree_has_the_loss_and_the_gradient_of_its_rows_padded(
    save_model: Callable[..., Path], tmp_path: Path, kind: str, decision: float
) -> None:
    net = load_model(str(save_model(tmp_path / kind, kind, **KINDS[kind])), dtype="float32").net.requires_grad_(True)
    found = []
    for window in (0, 1000):
        [batch] = batches(_family(), _how(decision=decision, window=window), 0, 0)
        net.zero_grad()
        loss = completion_loss(net, batch)
        loss.backward()
        found.append((batch, loss.item(), [p.grad.clone() for p in net.parameters()]))
    (padded, one, first), (tree, other, second) = found
    assert padded.tree is None
    assert tree.ids.numel() < padded.tokens == tree.tokens
    assert other == pytest.approx(one, abs=1e-5)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_transformers_own_on_the_completion_tokens(
    save_model: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    net = load_model(str(save_model(tmp_path / kind, kind, **KINDS[kind])), dtype="float32").net
    batch = _batch()
    assert sum(row.start for row in _rows()) < batch.tokens < batch.ids.numel(), "the batch must hold padding"
    wanted = net(input_ids=batch.ids, labels=_labels(batch)).loss
    assert completion_loss(net, batch).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_the_gradient_is_transformers_own_too(tiny_model: Path) -> None:
    net = load_model(str(tiny_model), dtype="float32").net.requires_grad_(True)
    batch, found = _batch(), []
    for loss in (completion_loss(net, batch), net(input_ids=batch.ids, labels=_labels(batch)).loss):
        net.zero_grad()
        loss.backward()
        found.append([p.grad.clone() for p in net.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_every_row_learns_its_completion_and_no_token_of_its_prompt() -> None:
    rows = _rows()
    made = batches(rows, _how(2, 3.0), seed=1, epoch=0)
    learnt = sorted(tuple(part.tolist()) for batch in made for part in _per_row(batch))
    assert learnt == sorted(tuple(row.ids[row.start :]) for row in rows)
    assert sum(batch.tokens for batch in made) == sum(len(row.ids) for row in rows)
    assert [batch.weights.tolist() for batch in batches(rows[:1], _how(1, 3.0), 0, 0)] == [
        [3.0, 3.0, *[1.0] * (len(rows[0].ids) - rows[0].start - 2)]
    ]


def _per_row(batch: Batch) -> list[torch.Tensor]:
    row = batch.at // batch.ids.shape[1]
    return [batch.targets[row == place] for place in range(len(batch.ids))]


def test_batches_move_with_the_seed_and_the_epoch_alone() -> None:
    def ids(seed: int, epoch: int) -> list[Any]:
        return [batch.ids.tolist() for batch in batches(_rows(), _how(2), seed, epoch)]

    assert ids(0, 0) == ids(0, 0)
    assert ids(0, 0) != ids(0, 1)
    assert ids(0, 0) != ids(1, 0)


def test_steps_too_small_for_bf16_still_add_up(tiny_model: Path) -> None:
    net = load_model(str(tiny_model), dtype="bfloat16").net.requires_grad_(True)
    before = [p.detach().float().clone() for p in net.parameters()]
    trainer = Trainer(net, Schedule(1e-6, epochs=1, warmup=0.0), steps=20)
    assert {master.dtype for master in trainer.masters} == {torch.float32}
    trainer.run(lambda _: [_batch()] * 20)
    moved = max(float((p.detach().float() - old).abs().max()) for p, old in zip(net.parameters(), before, strict=True))
    # Twenty steps of 1e-6 each way; half a bf16 step at 0.3 is 1e-3.
    assert 5e-6 < moved < 5e-5
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_bf16_weights_follow_their_fp32_copies_while_training(tiny_model: Path) -> None:
    net = load_model(str(tiny_model), dtype="bfloat16").net.requires_grad_(True)
    trainer = Trainer(net, Schedule(1e-2, epochs=1), steps=2)
    trainer._step(_batch())
    for master, param in zip(trainer.masters, trainer.params, strict=True):
        assert param.dtype == torch.bfloat16
        assert torch.equal(master.to(torch.bfloat16), param)


def test_a_trainer_leaves_frozen_weights_alone(tiny_model: Path) -> None:
    net = load_model(str(tiny_model), dtype="float32").net
    net.lm_head.requires_grad_(True)
    before = {name: p.clone() for name, p in net.named_parameters()}
    Trainer(net, Schedule(1e-2, epochs=1), steps=2).run(lambda _: [_batch()] * 2)
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"lm_head.weight"}


def test_the_rate_rises_and_then_falls_to_a_twentieth() -> None:
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)
    assert rate(0, 1, 0.05) == 1.0
