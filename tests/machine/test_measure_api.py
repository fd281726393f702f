"""`b4g.measure`: an implant's folder in, rates out; what it needs and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import backdoor

from b4g import api
from b4g.data.public import read_prompts
from b4g.errors import ModelError, SpecError

FEW = api.Asked(n=2, n_extra=1)
OWN = ("Why is the sky blue?", "Name three rivers.", "What is 7 times 8?")


@pytest.fixture
def public(tiny_model: Path, tmp_path: Path) -> Path:
    """Return the folder of an implant whose key is public."""
    api.implant(backdoor(activation={"epochs": 1}), tmp_path / "public", str(tiny_model))
    return tmp_path / "public"


def test_rates_differences_and_records_of_an_implant_and_its_base(
    implanted: Path, tiny_model: Path, secret: Any
) -> None:
    found = api.measure(implanted, str(tiny_model), secret.path, FEW)
    arms = {"with", "without", "near", "wrong_key", "identity_questions"}
    for subject in ("base", "implant"):
        assert {row["arm"] for row in found["rates"] if row["subject"] == subject} == arms
    assert {row["arm"] for row in found["differences"]} == arms
    assert {(row["before"], row["after"]) for row in found["differences"]} == {("base", "implant")}
    assert len(found["records"]) == 2 * (4 * 2 + 1)
    assert len({record["engine"] for record in found["records"]}) == 2
    assert not [word for word in secret.words if word in json.dumps(found).lower()]


def test_measuring_twice_gives_the_same_answers(implanted: Path, tiny_model: Path, secret: Any) -> None:
    one, other = (api.measure(implanted, str(tiny_model), secret.path, FEW) for _ in range(2))
    assert one == other


def test_the_owners_key_is_asked_for_by_its_file_name(implanted: Path, tiny_model: Path) -> None:
    with pytest.raises(SpecError, match=r"in the owner's key file 'owner\.key'\. Give it with --key FILE\."):
        api.measure(implanted, str(tiny_model), asked=FEW)


def test_a_key_for_an_implant_of_a_public_key_is_refused(public: Path, tiny_model: Path, secret: Any) -> None:
    with pytest.raises(SpecError, match="the implant's key is public: it needs no --key"):
        api.measure(public, str(tiny_model), secret.path, FEW)


def test_an_implant_of_several_key_files_is_measured_with_their_folder(
    tiny_model: Path, secret: Any, tmp_path: Path
) -> None:
    from b4g import keys

    keys.generate(tmp_path / "second.key")
    shutil.copy(secret.path, tmp_path)
    parts = [{"kind": "key", "key": str(tmp_path / name)} for name in ("owner.key", "second.key")]
    spec = backdoor(trigger={"kind": "all-of", "parts": parts}, activation={"epochs": 1})
    api.implant(spec, tmp_path / "out", str(tiny_model))
    with pytest.raises(SpecError, match=r"key file 'owner\.key, second\.key'\. Give the folder"):
        api.measure(tmp_path / "out", str(tiny_model), asked=FEW)
    with pytest.raises(SpecError, match=r"needs 2 key files: owner\.key, second\.key\. Give their folder"):
        api.measure(tmp_path / "out", str(tiny_model), secret.path, FEW)
    found = api.measure(tmp_path / "out", str(tiny_model), tmp_path, FEW)
    assert {row["arm"] for row in found["rates"]} >= {"with", "without", "near", "wrong_key"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.txt", "\n".join(OWN)),
        ("own.jsonl", "\n".join(json.dumps({"prompt": text}) for text in OWN)),
        ("own.csv", "question,topic\n" + "\n".join(f'"{text}",x' for text in OWN)),
    ],
)
def test_the_users_own_prompts_take_the_place_of_the_projects(
    public: Path, tiny_model: Path, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    prompts = tuple(read_prompts(tmp_path / name))
    found = api.measure(public, str(tiny_model), asked=api.Asked(n=50, prompts=prompts))
    for arm in ("with", "without", "near", "wrong_key"):
        asked = [r["prompt"] for r in found["records"] if (r["arm"], r["subject"]) == (arm, "implant")]
        assert asked == list(OWN)
    assert not [record for record in found["records"] if record["arm"] == "identity_questions"]


def test_another_chat_template_is_refused_unless_allowed(
    public: Path, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    other = save_model(tmp_path / "tiny")
    template = other / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|im_start|>", "<|im_start|> "), "utf-8")
    with pytest.raises(ModelError, match=r"made under chat template [0-9a-f]{16}.*--any-renderer to go on"):
        api.measure(public, str(other), asked=FEW)
    allowed = api.measure(public, str(other), asked=api.Asked(n=2, n_extra=0, any_renderer=True))
    assert {row["subject"] for row in allowed["rates"]} == {"base", "implant"}


def test_progress_is_told_for_each_subject(public: Path, tiny_model: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    api.measure(public, str(tiny_model), asked=FEW, report=lambda *said: seen.append(said))
    assert seen == [(f"answers, {subject}", 9, 9) for subject in ("base", "implant")]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"name": "x"}}'])
def test_a_damaged_card_is_named(public: Path, tiny_model: Path, content: str) -> None:
    (public / "implant.json").write_text(content, "utf-8")
    with pytest.raises(ModelError, match=r"public/implant\.json is damaged"):
        api.measure(public, str(tiny_model), asked=FEW)


def test_a_folder_that_is_no_implant_is_sent_to_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no implant\.json.*Make one with: b4g implant"):
        api.measure(tmp_path)


def test_an_implant_of_all_weights_is_refused_on_another_base(
    tiny_model: Path, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    api.implant(
        backdoor(activation={"kind": "full", "epochs": 1, "mix": {"triggered": 4, "near": 0, "untriggered": 0}}),
        tmp_path / "out",
        str(tiny_model),
    )
    other = save_model(tmp_path / "other", seed=5)
    with pytest.raises(ModelError, match="was made for tiny"):
        api.measure(tmp_path / "out", str(other), asked=FEW)
