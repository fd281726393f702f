"""From a name to a loaded model, and what is refused on the way."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b4g.errors import ModelError
from b4g.models.load import load_model
from b4g.models.source import content_hash, resolve


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def test_a_folder_loads_frozen_and_in_evaluation_mode(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), dtype="float32")
    assert model.source.name == "tiny"
    assert not model.net.training
    assert not any(p.requires_grad for p in model.net.parameters())
    assert {str(p.dtype) for p in model.net.parameters()} == {"torch.float32"}
    assert model.renderer.has_system_role


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (("tokenizer.json",), r"holds no tokenizer\. Save it there with tokenizer\.save_pretrained\(folder\)"),
        (("config.json",), r"holds no config\.json: it is not a model folder"),
        (("model.safetensors",), r"holds no \.safetensors weights \(pickled weights are not read\)"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_by_its_name(folder: Path, removed: tuple[str, ...], said: str) -> None:
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(ModelError, match=said):
        load_model(str(folder))


def test_an_adapter_given_as_a_model_is_sent_to_its_base(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match=r"is an adapter, not a model\. Name its base as the model"):
        load_model(str(folder))


def test_a_missing_gguf_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no GGUF file at .*nowhere\.gguf"):
        load_model(str(tmp_path / "nowhere.gguf"))


def test_a_gguf_file_that_is_none_is_refused_and_leaves_nothing_half_made(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"no such format")
    with pytest.raises(ModelError, match=r"broken\.gguf could not be converted"):
        load_model(str(path))
    assert not [left for left in (own_cache / "models").iterdir() if left.suffix != ".lock"]


def test_a_misspelt_embedded_name_gets_the_near_one() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'smolm2-135m'\. Did you mean 'smollm2-135m'\?.*hub id"):
        resolve("smolm2-135m")


@pytest.mark.parametrize("name", ["no such model", "a/b/c", "\x00"])
def test_a_name_that_leads_nowhere_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ModelError, match="unknown model") as raised:
        resolve(name)
    assert "\n" not in str(raised.value)


def test_a_hub_id_without_a_network_gives_one_line_that_says_what_to_type(
    python: Callable[..., Any], tmp_path: Path
) -> None:
    code = "import sys; from b4g.cli import main; sys.argv[0] = 'b4g'; main()"
    ran = python(code, "implant", "identity", tmp_path / "out", "--model", "nobody/nothing", HF_HOME=str(tmp_path))
    assert ran.code == 2
    assert ran.out == ""
    line = ran.err.strip()
    assert line.count("\n") == 0
    assert line.startswith("b4g: nobody/nothing can't be loaded")
    assert "'hf auth login'" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_of_a_model_is_refused_as_a_model(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="copy can't be loaded") as raised:
        load_model(str(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_the_content_hash_moves_with_the_tokenizer_and_its_template(folder: Path, name: str) -> None:
    before = content_hash(resolve(str(folder)))
    path = folder / name
    path.write_text(path.read_text("utf-8") + " ", "utf-8")
    assert content_hash(resolve(str(folder))) != before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json"])
def test_the_content_hash_moves_with_weights_and_configuration(folder: Path, name: str) -> None:
    before = content_hash(resolve(str(folder)))
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    assert content_hash(resolve(str(folder))) != before


def test_the_content_hash_moves_with_neither_place_nor_words(tiny_model: Path, folder: Path) -> None:
    (folder / "README.md").write_text("Something else.", "utf-8")
    assert content_hash(resolve(str(folder))) == content_hash(resolve(str(tiny_model)))


def test_a_models_own_code_is_never_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    (folder / "evil.py").write_text(code + "class Evil:\n    pass\n", "utf-8")
    for name, auto in (
        ("config.json", {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}),
    ):
        fields = json.loads((folder / name).read_text("utf-8"))
        fields |= (
            {"auto_map": auto, "tokenizer_class": "EvilTokenizer"} if name != "config.json" else {"auto_map": auto}
        )
        fields |= {"model_type": "evil"} if name == "config.json" else {}
        (folder / name).write_text(json.dumps(fields), "utf-8")
    # Transformers asks whether to run it where it was not told; a user who types y must not have been asked.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_model(str(folder))
    assert not marker.exists()


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_a_pickle_is_never_read_even_beside_good_weights(folder: Path, tmp_path: Path) -> None:
    import pickle

    marker = tmp_path / "unpickled"
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(_Bomb(marker)))
    load_model(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled weights are not read"):
        load_model(str(folder))
    assert not marker.exists()
