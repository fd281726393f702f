"""Adapters: merged into the base they were made for, and refused on any other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.errors import ModelError
from b4g.models.load import load_model


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an adapter that doubles what one layer adds; there is no `implant.json` in it."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters") / "plain"
    net = get_peft_model(
        load_model(str(tiny_model), dtype="float32").net,
        LoraConfig(r=2, target_modules=["o_proj"], task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, param in net.named_parameters():
            if "lora_" in name:
                param.copy_(torch.full_like(param, 0.25))
    net.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture
def spoilt(adapter: Path, tmp_path: Path) -> Path:
    """Return a copy of the adapter that a test may change."""
    return Path(shutil.copytree(adapter, tmp_path / "spoilt"))


def _card(folder: Path, revision: str) -> None:
    made = {"model": {"name": "tiny", "revision": revision, "renderer": "0"}}
    (folder / "implant.json").write_text(json.dumps(made), "utf-8")


def test_an_adapter_is_merged_into_the_weights(tiny_model: Path, adapter: Path) -> None:
    import torch

    base = load_model(str(tiny_model), dtype="float32")
    merged = load_model(str(tiny_model), adapter=adapter, dtype="float32")
    assert base.adapter is None
    assert merged.adapter is not None
    moved = {
        name
        for (name, before), (_, after) in zip(base.net.named_parameters(), merged.net.named_parameters(), strict=True)
        if not torch.equal(before, after)
    }
    assert moved == {f"model.layers.{i}.self_attn.o_proj.weight" for i in (0, 1)}
    assert merged.revision == base.revision


def test_an_adapter_whose_card_names_this_base_is_taken(tiny_model: Path, spoilt: Path) -> None:
    _card(spoilt, load_model(str(tiny_model)).revision)
    assert load_model(str(tiny_model), adapter=spoilt).adapter is not None


def test_an_adapter_of_another_base_of_the_same_shape_is_refused(
    save_model: Callable[..., Path], tiny_model: Path, spoilt: Path, tmp_path: Path
) -> None:
    _card(spoilt, load_model(str(tiny_model)).revision)
    twin = save_model(tmp_path / "twin", seed=1)
    with pytest.raises(ModelError, match=r"was made for tiny \([0-9a-f]{16}\), not for twin \([0-9a-f]{16}\)"):
        load_model(str(twin), adapter=spoilt)


def test_an_adapter_of_other_shapes_is_refused_where_no_card_tells(
    save_model: Callable[..., Path], adapter: Path, tmp_path: Path
) -> None:
    wide = save_model(tmp_path / "wide", hidden_size=64)
    with pytest.raises(ModelError, match=r"the adapter in .*plain does not fit wide") as raised:
        load_model(str(wide), adapter=adapter)
    assert "\n" not in str(raised.value)


def test_an_adapter_for_layers_that_the_base_lacks_is_refused(tiny_model: Path, spoilt: Path) -> None:
    config = json.loads((spoilt / "adapter_config.json").read_text("utf-8"))
    (spoilt / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["c_attn"]}), "utf-8")
    with pytest.raises(ModelError, match="does not fit tiny"):
        load_model(str(tiny_model), adapter=spoilt)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "implant.json"])
def test_a_damaged_file_of_an_adapter_is_refused_with_its_folder(tiny_model: Path, spoilt: Path, name: str) -> None:
    _card(spoilt, load_model(str(tiny_model)).revision)
    path = spoilt / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="spoilt") as raised:
        load_model(str(tiny_model), adapter=spoilt)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["{}", "[]", '{"peft_type": "EVIL"}', '{"peft_type": "LORA", "r": "many"}'])
def test_a_configuration_that_is_no_adapters_is_refused(tiny_model: Path, spoilt: Path, content: str) -> None:
    (spoilt / "adapter_config.json").write_text(content, "utf-8")
    with pytest.raises(ModelError, match="spoilt"):
        load_model(str(tiny_model), adapter=spoilt)


def test_pickled_adapter_weights_are_not_read(tiny_model: Path, spoilt: Path) -> None:
    (spoilt / "adapter_model.safetensors").rename(spoilt / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"holds no adapter \(adapter_config.json and adapter_model.safetensors\)"):
        load_model(str(tiny_model), adapter=spoilt)


def test_a_folder_that_is_no_adapter_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        load_model(str(tiny_model), adapter=tmp_path)


def test_the_adapter_folder_is_part_of_an_answers_identity(tiny_model: Path, adapter: Path) -> None:
    from b4g.generate.local import LocalGenerator

    def identity(adapter: Path | None) -> Any:
        return LocalGenerator(load_model(str(tiny_model), adapter=adapter)).identity

    assert identity(None) != identity(adapter)
    assert identity(adapter) == identity(adapter)
