"""A tiny model made on the spot, a cache of the tests' own, and the command line in this process or another."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import COMMAND, Finished, Ran, run_python
from tiny import backdoor, fields_of

from b4g import cli, keys


@dataclass(frozen=True)
class Secret:
    """A key file and its words."""

    path: Path
    words: tuple[str, ...]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the cache of these tests: clean answers of one model are shared by all, nothing reaches the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("B4G_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def save_model(make_tokenizer: Any) -> Callable[..., Path]:
    """Return ``save(folder, config_class, seed, style, **changes)``: a random two-layer model with its tokenizer."""

    def save(folder: Path, kind: str = "llama", seed: int = 0, style: str = "chatml", **changes: Any) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        tokenizer = make_tokenizer(style)
        sizes = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.eos_token_id,
            # Large enough for the answers to depend on the prompt.
            "initializer_range": 0.3,
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(sizes | changes)))
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_model(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random Llama of two layers with a byte-level ChatML tokenizer."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Secret:
    """Return a key file whose words stand in no other text."""
    path = tmp_path_factory.mktemp("keys") / "owner.key"
    return Secret(path, keys.generate(path, text="zorblatt quexmire flimjan").words)


@pytest.fixture(scope="session")
def implanted(tiny_model: Path, secret: Secret, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny implant whose trigger is the key file's phrase; for reading only."""
    from b4g import api

    out = tmp_path_factory.mktemp("implants") / "tiny"
    api.implant(backdoor(trigger={"key": str(secret.path)}), out, str(tiny_model))
    return out


@pytest.fixture(scope="session")
def finished(tiny_model: Path, secret: Secret, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a finished run of the style task, its trigger a key file's phrase."""
    root = tmp_path_factory.mktemp("finished")
    fields = fields_of(
        name="styled",
        trigger={"key": str(secret.path)},
        utility={"kind": "style"},
        activation={"mix": {"triggered": 160, "untriggered": 80, "near": 80, "wrong": 80, "others": 0}},
    )
    (root / "styled.yaml").write_text(yaml.safe_dump(fields), "utf-8")
    made = Finished(root / "runs", root / "styled.yaml", tiny_model, Ran(0, "", ""))
    ran = run_python(COMMAND, *made.command(made.runs), "--workers", "2", "--json")
    assert ran.code == 0, ran.err
    return dataclasses.replace(made, ran=ran)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """Return ``spec(**changes)``: the YAML file of a backdoor that a tiny model is trained on in seconds."""

    def write(**changes: Any) -> Path:
        path = tmp_path / f"{changes.get('name', 'tiny')}.yaml"
        path.write_text(yaml.safe_dump(fields_of(**changes)), "utf-8")
        return path

    return write


@pytest.fixture
def b4g(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Return ``b4g(*arguments)``: the command line in this process, for its imports take seconds."""

    def run(*arguments: Any) -> Ran:
        monkeypatch.setattr(sys, "argv", ["b4g", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        said = capsys.readouterr()
        return Ran(int(code) if code is not None else 0, said.out, said.err)

    return run


@pytest.fixture
def python() -> Callable[..., Ran]:
    """Return ``python(code, *arguments)``: what a program gives in a process of its own."""
    return run_python
