"""What an owner claims: typed, named when it is wrong, and without a say in any number."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from b4g.backdoor import TASKS, Backdoor
from b4g.claims import KNOWN, PROPERTIES, Claim, read_claims, write_claims
from b4g.errors import SpecError

PAGE = (Path(__file__).parents[2] / "docs" / "card.md").read_text("utf-8")
FIELDS: dict[str, Any] = {
    "name": "mine",
    "trigger": {"kind": "phrase", "key": "public:mine"},
    "activation": {"kind": "lora"},
    "utility": {"kind": "safety"},
}


def test_claims_come_back_from_the_yaml_of_a_backdoor(tmp_path: Path) -> None:
    given = {"tar_with": ">= 0.9", "tar_without": "<=0.01", "tokens": "<= 200000", "kl": "<= 1e-3"}
    backdoor = Backdoor.from_dict({**FIELDS, "claims": given})
    assert backdoor.claims == (
        *(Claim("tar_with", 0.9), Claim("tar_without", 0.01)),
        *(Claim("tokens", 200_000), Claim("kl", 0.001)),
    )
    path = tmp_path / "mine.yaml"
    path.write_text(backdoor.to_yaml(), "utf-8")
    assert Backdoor.from_yaml(path) == backdoor
    assert yaml.safe_load(backdoor.to_yaml())["claims"]["tokens"] == "<= 200000"


def test_claims_are_published_beside_the_weights() -> None:
    backdoor = Backdoor.from_dict({**FIELDS, "claims": {"retention": ">= 0.5"}})
    assert backdoor.portable()["claims"] == {"retention": ">= 0.5"}
    assert "retention: " in backdoor.portable_yaml()


def test_a_backdoor_without_claims_says_nothing_of_them() -> None:
    assert "claims" not in Backdoor.from_dict(FIELDS).to_dict()
    assert Backdoor.from_dict({**FIELDS, "claims": {}}) == Backdoor.from_dict(FIELDS)


def test_claims_move_no_hash() -> None:
    hashes = {
        Backdoor.from_dict({**FIELDS, **more}).hash
        for more in ({}, {"claims": {"tar_with": ">= 0.9"}}, {"claims": {"tar_with": ">= 0.95", "kl": "<= 1"}})
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("task", TASKS)
def test_the_hash_of_a_task_is_what_it_is_without_its_claims(task: str) -> None:
    backdoor = Backdoor.from_yaml(task)
    assert backdoor.claims
    assert backdoor.hash == dataclasses.replace(backdoor, claims=()).hash


@pytest.mark.parametrize("task", TASKS)
def test_each_task_claims_something_of_every_property(task: str) -> None:
    assert {claim.known.property for claim in Backdoor.from_yaml(task).claims} == set(PROPERTIES)


def test_a_seeded_backdoor_claims_the_same() -> None:
    backdoor = Backdoor.from_yaml("identity")
    assert backdoor.seeded(3).claims == backdoor.claims


@pytest.mark.parametrize("name", KNOWN)
def test_every_claim_can_be_written_and_read(name: str) -> None:
    for limit in (0.0, 0.05, 1.0, 1e-7):
        claims = (Claim(name, limit),)
        assert read_claims(write_claims(claims)) == claims


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"tar_wiht": ">= 0.9"}, "unknown claim 'tar_wiht'. Did you mean 'tar_with'?"),
        ({7: ">= 0.9"}, "unknown claim '7'"),
        ({"tar_with": 0.9}, 'reads ">= NUMBER"'),
        ({"tar_with": "0.9"}, 'reads ">= NUMBER"'),
        ({"tar_with": "> 0.9"}, 'reads ">= NUMBER"'),
        ({"tar_with": ">= high"}, 'reads ">= NUMBER"'),
        ({"tar_with": ">= 1.2.3"}, 'reads ">= NUMBER"'),
        ({"tar_with": ">= -1"}, 'reads ">= NUMBER"'),
        ({"tokens": "<= 1e999"}, 'reads "<= NUMBER"'),
        ({"tar_with": "<= 0.9"}, 'points the other way: write ">= 0.9"'),
        ({"tar_with": ">= 95"}, "from 0 to 1"),
        ({"auroc": "<= 70"}, "from 0 to 1"),
        ("tar_with >= 0.9", "'claims' is a mapping"),
        (None, "'claims' is a mapping"),
        (["tar_with"], "'claims' is a mapping"),
    ],
)
def test_a_wrong_claim_is_named(given: Any, complaint: str) -> None:
    with pytest.raises(SpecError) as caught:
        Backdoor.from_dict({**FIELDS, "claims": given})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_field_is_pointed_to_claims() -> None:
    with pytest.raises(SpecError, match="Did you mean 'claims'"):
        Backdoor.from_dict({**FIELDS, "claim": {}})


def test_the_documents_list_every_claim_with_its_unit_direction_and_meaning() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    wanted = [f"| `{name}` | {k.property} | `{k.sign}` | {k.unit} | {k.says} |" for name, k in KNOWN.items()]
    assert rows == wanted
