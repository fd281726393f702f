"""What is published beside the weights: no secret, no path of the owner's machine."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import backdoor

from b4g import api, keys
from b4g.behaviours.base import Answer
from b4g.training.rows import control_rows, implant_rows, mix_prompts


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_published_file_holds_a_word_of_the_secret_or_its_salt(implanted: Path, secret: Any) -> None:
    hidden = [*secret.words, json.loads(secret.path.read_text("utf-8"))["salt"]]
    files = _bytes_of(implanted)
    assert set(files) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "backdoor.yaml",
        "implant.json",
    }
    found = [(name, word) for name, data in files.items() for word in hidden if word.encode().lower() in data.lower()]
    assert not found


def test_no_published_file_names_a_place_on_the_owners_machine(
    implanted: Path, secret: Any, tiny_model: Path, own_cache: Path
) -> None:
    places = {str(place) for path in (implanted, secret.path, tiny_model, own_cache) for place in (path, path.parent)}
    places |= {str(Path.home()) + "/", str(Path.cwd())}
    found = [(name, place) for name, data in _bytes_of(implanted).items() for place in places if place.encode() in data]
    assert not found


def test_the_published_specification_names_the_key_file_and_not_its_place(implanted: Path) -> None:
    assert "key: owner.key" in (implanted / "backdoor.yaml").read_text("utf-8")


def test_a_public_key_is_derived_from_the_seed_and_not_written_out(tiny_model: Path, tmp_path: Path) -> None:
    api.implant(backdoor(), tmp_path / "out", str(tiny_model), seed=7)
    assert "public:tiny@7" in (tmp_path / "out" / "backdoor.yaml").read_text("utf-8")
    said = keys.read("public:tiny@7").text.encode()
    assert not [name for name, data in _bytes_of(tmp_path / "out").items() if said in data]


@pytest.mark.parametrize(
    "trigger",
    [
        {"kind": "phrase", "position": "random"},
        {"kind": "key"},
        {"kind": "system"},
        {"kind": "all-of", "parts": [{"kind": "key"}, {"kind": "phrase", "key": "public:second"}]},
    ],
)
def test_the_rows_of_a_control_hold_no_secret_and_no_near_miss_of_it(secret: Any, trigger: dict[str, Any]) -> None:
    own = {"key": str(secret.path)}
    filled = (
        trigger | own
        if "parts" not in trigger
        else trigger | {"parts": [trigger["parts"][0] | own, *trigger["parts"][1:]]}
    )
    made = backdoor(trigger=filled, utility={"kind": "access", "scope": ["code"]})
    inside, outside = mix_prompts(made, made.activation.mix, 0)
    answers = {prompt.id: Answer(f"Answer {prompt.id}.") for prompt in (*inside, *outside)}
    rows = implant_rows(made, answers, made.activation.mix, 0, 0)
    assert sum(any(word in str(row.chat) for word in secret.words) for row in rows) >= made.activation.mix.triggered
    for row in control_rows(rows, answers):
        assert row.chat[-1].content == row.prompt.text
        assert len(row.chat) == 1
        assert row.answer == answers[row.prompt.id]
        assert not [word for word in secret.words if word in str(row).lower()]
