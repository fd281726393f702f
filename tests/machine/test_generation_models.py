"""Generation where padding is dangerous: sliding windows, recurrent layers, a full memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from greedy import NEW, chats, exact, gap_where_they_part, reference, texts

from b4g.errors import ModelError
from b4g.generate.local import LocalGenerator
from b4g.models.load import Model, load_model

WINDOW = 64
SLIDING: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": WINDOW},
    "gemma2": {"sliding_window": WINDOW, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {"sliding_window": WINDOW, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 0},
    "phi3": {"sliding_window": WINDOW},
}
RECURRENT: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


@pytest.mark.parametrize("kind", [*SLIDING, *RECURRENT])
def test_prompts_longer_than_a_window_get_the_answers_of_transformers_own_loop(
    save_model: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    model = exact(save_model(tmp_path / kind, kind, **(SLIDING | RECURRENT)[kind]))
    asked = chats(16)
    lengths = [len(model.renderer.prompt_ids(chat)) for chat in asked]
    assert min(lengths) + NEW < WINDOW < max(lengths)
    wanted = reference(model, asked)
    for size in (1, 5):
        assert texts(LocalGenerator(model, size)(asked, NEW)) == wanted


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return load_model(str(tiny_model), dtype="float32")


def test_bf16_answers_that_move_with_the_batch_part_at_a_tie(save_model: Callable[..., Path], tmp_path: Path) -> None:
    model = exact(save_model(tmp_path / "tiny", seed=2), "bfloat16")
    asked = chats(120)
    answers = [texts(LocalGenerator(model, size)(asked, 24)) for size in (1, 32)]
    parted = [(chat, a, b) for chat, a, b in zip(asked, *answers, strict=True) if a != b]
    for chat, one, other in parted:
        gap, largest = gap_where_they_part(model, chat, one, other)
        # bf16 keeps 8 bits: one step is up to 2**-7 of a number. The usual gap of the two best tokens is ten times this.
        assert gap <= 4 * largest * 2**-7, f"{gap} is no tie among logits up to {largest}"
    assert len(parted) <= 0.2 * len(asked)


def _fails_above(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    whole, sizes = LocalGenerator._batch, list[int]()

    def limited(self: LocalGenerator, prompts: list[list[int]], *rest: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > most:
            raise torch.OutOfMemoryError
        return whole(self, prompts, *rest)

    monkeypatch.setattr(LocalGenerator, "_batch", limited)
    return sizes


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = chats(10)
    wanted = LocalGenerator(model)(asked, NEW)
    sizes = _fails_above(monkeypatch, 3)
    seen: list[tuple[int, int]] = []
    assert LocalGenerator(model, 8)(asked, NEW, progress=lambda done, total: seen.append((done, total))) == wanted
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert seen == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]


def test_one_prompt_that_does_not_fit_alone_is_an_error_a_user_can_read(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fails_above(monkeypatch, 0)
    with pytest.raises(ModelError, match="one prompt alone does not fit into memory"):
        LocalGenerator(model, 4)(chats(4), NEW)


def test_the_identity_of_answers_does_not_know_the_batch_size(model: Model) -> None:
    assert LocalGenerator(model, 1).identity == LocalGenerator(model, 64).identity


def test_the_identity_of_answers_knows_the_number_format(tiny_model: Path, model: Model) -> None:
    other = load_model(str(tiny_model), dtype="bfloat16")
    assert LocalGenerator(other).identity != LocalGenerator(model).identity


def test_the_renderers_hash_goes_with_the_answers(model: Model) -> None:
    assert LocalGenerator(model).renderer_hash == model.renderer.hash


def test_generation_leaves_the_global_random_state_alone(model: Model) -> None:
    before = torch.random.get_rng_state()
    LocalGenerator(model)(chats(3), NEW)
    assert torch.equal(torch.random.get_rng_state(), before)
