"""The catalogue by name: where it leads, who is let in, and what doctor and ls say of it without a download."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, constants

from b4g.api import base_place
from b4g.bench.estimate import Estimate
from b4g.doctor import examine
from b4g.errors import ModelError, SpecError
from b4g.listing import listing
from b4g.models import source
from b4g.models.architecture import FAMILIES, from_config, read_architecture
from b4g.models.cards import CARDS, Work, fitting, seconds
from b4g.models.catalogue import CATALOGUE, entry_of
from b4g.models.embedded import EMBEDDED
from b4g.models.source import Source, content_hash, resolve, unreachable
from b4g.weighing import weigh

NAMES = sorted(CATALOGUE)
GATED = [name for name in NAMES if CATALOGUE[name].gated]
COSTS = {name: Estimate(4, 400, 2000, 60.0) for name in ("quick", "standard")}


def test_the_papers_four_models_are_there_and_only_qwen_is_open() -> None:
    assert NAMES == ["gemma-2-9b", "llama-2-13b", "llama-3.1-8b", "qwen2.5-7b"]
    assert [name for name in NAMES if name not in GATED] == ["qwen2.5-7b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_leads_to_the_hub_at_the_pinned_commit(name: str) -> None:
    entry = CATALOGUE[name]
    assert resolve(name) == Source(name, entry.hub, entry.revision)
    assert re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert resolve(name, "main").revision == "main"


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_id_alone_is_the_same_weights(name: str) -> None:
    by_id = resolve(CATALOGUE[name].hub)
    assert by_id.name == CATALOGUE[name].hub
    assert content_hash(by_id) == content_hash(resolve(name))
    assert content_hash(resolve(name, "main")) != content_hash(resolve(name))


def test_a_folder_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "llama-3.1-8b"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert resolve("llama-3.1-8b").is_local
    assert Path(resolve("llama-3.1-8b").place) == Path("llama-3.1-8b")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Let no test ask the hub itself; return the ids that were asked for. The cache is empty."""
    ids: list[str] = []

    def model_info(self: HfApi, repo_id: str, timeout: float) -> SimpleNamespace:
        ids.append(repo_id)
        if repo_id == "nobody/nothing":
            raise OSError("Name or service not known")
        return SimpleNamespace(sha="5" * 40)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source.commit_of.cache_clear()
    yield ids
    source.commit_of.cache_clear()


def test_an_embedded_model_keeps_its_name_where_it_is_read_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B4G_CACHE", str(tmp_path))
    name = "smollm2-135m"
    folder, copy = tmp_path / "models" / f"{name}-{EMBEDDED[name].sha256}", tmp_path / "mine"
    for made in (folder, copy):
        made.mkdir(parents=True)
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            (made / file).write_text("{}", "utf-8")
    assert [resolve(str(made)).name for made in (folder, copy)] == [name, "mine"]


def test_a_base_that_is_not_known_by_its_name_is_asked_for_with_the_option() -> None:
    made = {"model": {"name": "my-own-base"}}
    with pytest.raises(ModelError, match=r"base is called 'my-own-base'.* Say where it is: --base FOLDER") as raised:
        base_place(made, None, "--base")
    assert "\n" not in str(raised.value)
    assert base_place(made, "/somewhere") == "/somewhere"


def test_a_near_name_is_told_and_another_hub_id_stays_as_it_is(asked: list[str]) -> None:
    with pytest.raises(ModelError, match=r"Did you mean 'llama-3\.1-8b'\?"):
        resolve("llama-3.1-8B-it")
    assert resolve("nobody/nothing") == Source("nobody/nothing", "nobody/nothing", None)
    assert entry_of("nobody/nothing") is None


def test_a_hub_id_stands_for_the_commit_of_its_main_branch_looked_up_once(asked: list[str]) -> None:
    assert resolve("some/model") == Source("some/model", "some/model", "5" * 40)
    assert content_hash(resolve("some/model")) != content_hash(resolve("some/model", "6" * 40))
    assert asked == ["some/model"]


def test_out_of_reach_a_hub_id_stands_for_the_commit_that_was_read_last(asked: list[str], tmp_path: Path) -> None:
    ref = tmp_path / "models--nobody--nothing" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("7" * 40, "utf-8")
    assert resolve("nobody/nothing").revision == "7" * 40


@pytest.mark.parametrize("name", GATED)
def test_a_gated_model_without_a_token_says_in_one_line_how_to_be_let_in(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "has_token", lambda: False)
    said = str(unreachable(resolve(name), OSError("no connection")))
    assert "\n" not in said
    assert f"{name} ({CATALOGUE[name].hub}) is gated and this machine has no access token" in said
    assert f"accept the {CATALOGUE[name].licence}" in said
    assert "type: hf auth login" in said


def test_a_token_that_is_not_let_in_is_told_from_a_network_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError

    monkeypatch.setattr(source, "has_token", lambda: True)
    refused = GatedRepoError.__new__(GatedRepoError)
    shut = OSError("You are trying to access a gated repo.")
    shut.__cause__ = refused
    assert "your access token was not let in" in str(unreachable(resolve("gemma-2-9b"), shut))
    assert "Check the id and the network" in str(unreachable(resolve("gemma-2-9b"), OSError("no route")))


def test_an_open_model_never_asks_for_a_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "has_token", lambda: False)
    assert "is gated and" not in str(unreachable(resolve("qwen2.5-7b"), OSError("no connection")))
    assert "nothing to accept" in CATALOGUE["qwen2.5-7b"].access


def test_the_listing_names_size_and_licence() -> None:
    models = listing()["models"]
    assert models["llama-3.1-8b"] == "meta-llama/Llama-3.1-8B-Instruct, 16.1 GB, Llama 3.1 Community License, gated"
    assert models["qwen2.5-7b"] == "Qwen/Qwen2.5-7B-Instruct, 15.2 GB, Apache-2.0"
    assert set(NAMES) < set(models)


def test_an_architecture_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown model_type 'lama'\. Did you mean 'llama'\?"):
        from_config({"model_type": "lama"})
    with pytest.raises(ModelError, match="lacks a number"):
        from_config({"model_type": FAMILIES[0]})
    (tmp_path / "config.json").write_text("[", "utf-8")
    with pytest.raises(ModelError, match="can't be read"):
        read_architecture(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_more_fits_on_a_larger_card_and_on_more_of_them(name: str) -> None:
    arch = CATALOGUE[name].architecture
    for gpus in (1, 4):
        found = [set(fitting(arch, card.gigabytes, gpus)) for card in CARDS]
        assert all(small <= large for small, large in pairwise(found))
    assert set(fitting(arch, 24, 1)) <= set(fitting(arch, 24, 8))
    assert "LoRA" in fitting(arch, 80)
    assert "all weights, checkpointing" not in fitting(arch, 80)


def test_a_faster_card_and_less_work_take_less_time() -> None:
    arch, work = CATALOGUE["llama-2-13b"].architecture, Work(2000, 75, 1600)
    times = [seconds(arch, card, work) for card in CARDS]
    assert times[0] > times[2] >= times[3] > 0
    assert seconds(arch, CARDS[0], Work(1000, 75, 800)) == pytest.approx(times[0] / 2)


def test_the_doctor_weighs_a_model_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "has_token", lambda: False)
    found = {check.what: check for check in examine("llama-3.1-8b")}
    assert found["size"].found == "8.03 billion parameters, 16.1 GB in bf16"
    assert not found["access"].ok
    assert "hf auth login" in found["access"].found
    assert {"memory, LoRA", "memory, 32 answers", "fits on 24 GB", "time on 80 GB", "fits here"} <= set(found)
    assert "access" not in {check.what for check in examine("qwen2.5-7b")}


def test_several_gpus_share_weights_and_a_silly_number_is_refused() -> None:
    arch = CATALOGUE["llama-2-13b"].architecture
    lines = {line.what: line.found for line in weigh(arch, 4, COSTS)}
    assert {"memory, LoRA, each of 4 GPUs", "fits on 4 x 24 GB"} <= set(lines)
    with pytest.raises(SpecError, match="--gpus must be at least 1, not 0"):
        list(weigh(arch, 0, COSTS))


def test_a_machine_too_small_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = CATALOGUE["llama-2-13b"].architecture
    monkeypatch.setattr("b4g.weighing._room", lambda: 8e9)
    line = list(weigh(arch, 1, COSTS))[-1]
    assert not line.ok
    assert re.match(r"no: \d+\.\d GB a worker, 8\.0 GB here", line.found)
