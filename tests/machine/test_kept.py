"""The base that a worker keeps between its cells: what it gives out is what a fresh reading gives."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.models import kept
from b4g.models.kept import Keeper


@pytest.fixture
def counted(tiny_model: Path, tmp_path: Path) -> tuple[Keeper, list[str], Path]:
    """Return a keeper, the names that it read from disk, and a model folder that a test may change."""
    from b4g.models.load import read_model

    folder, read = tmp_path / "base", list[str]()
    shutil.copytree(tiny_model, folder)

    def reading(name: str, *rest: Any) -> Any:
        read.append(Path(name).name)
        return read_model(name, *rest)

    return Keeper(reading), read, folder


def _bytes(model: Any) -> dict[str, Any]:
    return {name: part.clone() for name, part in model.net.state_dict().items()}


def test_the_base_is_read_once_and_what_a_cell_does_to_it_reaches_no_other_cell(
    counted: tuple[Keeper, list[str], Path],
) -> None:
    import torch

    keeper, read, folder = counted
    keeper.keep(str(folder), "float32")
    first = keeper.copied(str(folder), "float32", None)
    assert first is not None
    fresh = _bytes(first)
    for part in first.net.parameters():
        part.data.zero_()
    second = keeper.copied(str(folder), "float32", None)
    assert read == ["base"]
    assert second is not None
    assert all(torch.equal(fresh[name], part) for name, part in second.net.state_dict().items())
    assert (second.revision, second.renderer.hash, second.source) == (
        first.revision,
        first.renderer.hash,
        first.source,
    )
    assert not second.net.training
    assert not any(part.requires_grad for part in second.net.parameters())


def test_another_model_or_number_format_is_not_kept_and_another_base_replaces_the_first(
    counted: tuple[Keeper, list[str], Path], tiny_model: Path
) -> None:
    keeper, read, folder = counted
    keeper.keep(str(folder), "float32")
    assert keeper.copied(str(tiny_model), "float32", None) is None
    assert keeper.copied(str(folder), "bfloat16", None) is None
    assert read == []
    keeper.keep(str(tiny_model), "float32")
    for _ in range(2):
        assert keeper.copied(str(tiny_model), "float32", None) is not None
    assert read == ["tiny"]


def test_a_base_whose_file_changes_is_read_again(
    counted: tuple[Keeper, list[str], Path], save_model: Callable[..., Path]
) -> None:
    keeper, read, folder = counted
    keeper.keep(str(folder), "float32")
    before = keeper.copied(str(folder), "float32", None)
    save_model(folder, seed=5)
    after = keeper.copied(str(folder), "float32", None)
    assert before is not None and after is not None
    assert after.revision != before.revision
    assert read == ["base", "base"]


def test_a_base_that_takes_too_much_of_the_free_memory_is_not_kept(
    counted: tuple[Keeper, list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, read, folder = counted
    monkeypatch.setattr(kept, "_free_bytes", lambda net: 100_000.0)
    keeper.keep(str(folder), "float32")
    for _ in range(2):
        assert keeper.copied(str(folder), "float32", None) is not None
    assert read == ["base", "base"]


def test_nothing_is_kept_in_a_process_that_did_not_ask_for_it(tiny_model: Path) -> None:
    kept.keep(str(tiny_model), "float32")
    assert kept.copied(str(tiny_model), "float32", None) is None


def test_a_worker_that_keeps_its_base_merges_adapters_into_copies(
    tiny_model: Path, implanted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from b4g.models.load import load_model

    alone = load_model(str(tiny_model), implanted, "float32")
    monkeypatch.setattr(kept, "_installed", [])
    kept.install()
    kept.keep(str(tiny_model), "float32")
    for _ in range(2):
        made = load_model(str(tiny_model), implanted, "float32")
        assert made.adapter == alone.adapter
        assert all(torch.equal(part, _bytes(alone)[name]) for name, part in made.net.state_dict().items())
    assert load_model(str(tiny_model), dtype="float32").adapter is None
