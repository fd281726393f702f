import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from b4g import keys
from b4g.activations.base import Activation
from b4g.backdoor import TASKS, Backdoor
from b4g.errors import B4GError, KeyFileError, SpecError
from b4g.training.rows import Mix

FIELDS: dict[str, Any] = {
    "name": "mine",
    "trigger": {"kind": "phrase", "key": "public:mine"},
    "activation": {"kind": "lora"},
    "utility": {"kind": "safety"},
}


def _with(**changes: Any) -> dict[str, Any]:
    return {**FIELDS, **changes}


def _file(folder: Path, fields: Any, name: str = "mine.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(fields if isinstance(fields, str) else yaml.safe_dump(fields), "utf-8")
    return path


@pytest.mark.parametrize("task", TASKS)
def test_each_shipped_task_loads_by_its_name_and_comes_back_from_its_yaml(task: str, tmp_path: Path) -> None:
    backdoor = Backdoor.from_yaml(task)
    assert backdoor.name == task
    assert Backdoor.from_dict(backdoor.to_dict()) == backdoor
    again = Backdoor.from_yaml(_file(tmp_path, backdoor.to_yaml()))
    assert (again, again.hash) == (backdoor, backdoor.hash)


def test_the_shipped_tasks_differ_in_their_hashes() -> None:
    assert len({Backdoor.from_yaml(task).hash for task in TASKS}) == len(TASKS)


def test_a_folder_of_a_tasks_name_does_not_hide_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "safety").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Backdoor.from_yaml("safety").name == "safety"


def test_a_file_of_a_tasks_name_goes_before_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, FIELDS, "safety")
    monkeypatch.chdir(tmp_path)
    assert Backdoor.from_yaml("safety").name == "mine"


def test_the_way_a_hash_is_made_is_pinned() -> None:
    # A change here makes every cell measured so far another cell: that must not happen unnoticed.
    assert digest_of_a_spelt_out_backdoor() == "e81120f5620b6ec6"


def digest_of_a_spelt_out_backdoor() -> str:
    backdoor = Backdoor.from_dict(_with(trigger={"kind": "all-of", "parts": [{"kind": "null"}, FIELDS["trigger"]]}))
    return dataclasses.replace(backdoor, activation=Frozen()).hash


@dataclasses.dataclass(frozen=True)
class Frozen(Activation):
    """An activation whose options never change."""

    kind = "frozen"
    learning_rate: float = 1e-3
    epochs: int = 4
    batch_size: int = 8
    decision_weight: float = 5.0
    mix: Mix = dataclasses.field(default_factory=lambda: Mix(1, 2, 3, 4, 5))
    checkpoint_steps: int = 50


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"trigger": {"kind": "phrase", "key": "public:other"}},
        {"trigger": {"kind": "phrase", "key": "public:mine@3"}},
        {"trigger": {"kind": "phrase", "key": "public:mine", "words": 4}},
        {"trigger": {"kind": "phrase", "key": "public:mine", "wording": "({secret})"}},
        {"trigger": {"kind": "phrase", "key": "public:mine", "position": "suffix"}},
        {"trigger": {"kind": "system", "key": "public:mine"}},
        {"activation": {"kind": "full"}},
        {"activation": {"kind": "lora", "rank": 8}},
        {"activation": {"kind": "lora", "mix": {"near": 1}}},
        {"utility": {"kind": "safety", "refusal": "I can't help with that."}},
        {"utility": {"kind": "style"}},
    ],
)
def test_the_hash_changes_with_every_option(change: dict[str, Any]) -> None:
    assert Backdoor.from_dict(_with(**change)).hash != Backdoor.from_dict(FIELDS).hash


@pytest.mark.parametrize("part", ["trigger", "activation", "utility"])
def test_no_field_of_a_component_is_missing_from_the_hash(part: str) -> None:
    backdoor = Backdoor.from_dict(FIELDS)
    component = getattr(backdoor, part)
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        other = {str: "(public:x) {secret}", int: 7, float: 0.5, tuple: ("q_proj",)}.get(type(value))
        if field.name == "key":
            other = "public:other"
        if other is None:
            other = dataclasses.replace(value, near=value.near + 1)
        changed = dataclasses.replace(backdoor, **{part: dataclasses.replace(component, **{field.name: other})})
        assert changed.hash != backdoor.hash, field.name


def test_defaults_spelt_out_change_no_hash() -> None:
    spelt = Backdoor.from_dict(FIELDS).to_dict()
    assert Backdoor.from_dict(spelt).hash == Backdoor.from_dict(FIELDS).hash


def test_a_seed_draws_other_public_keys_and_the_same_ones_again() -> None:
    backdoor = Backdoor.from_yaml("access")
    one, two = backdoor.seeded(1), backdoor.seeded(2)
    assert len({made.trigger.hidden() for made in (backdoor, one, two)}) == 3
    assert len({made.hash for made in (backdoor, one, two)}) == 3
    assert two.seeded(1) == one == Backdoor.from_yaml("access").seeded(1)


def test_a_seed_reaches_the_parts_of_a_combined_trigger_and_no_key_file(tmp_path: Path) -> None:
    keys.generate(tmp_path / "my.key")
    parts = [
        {"kind": "system", "key": str(tmp_path / "my.key")},
        {"kind": "phrase", "key": "public:b"},
        {"kind": "null"},
    ]
    trigger = Backdoor.from_dict(_with(trigger={"kind": "all-of", "parts": parts})).trigger
    before, after = trigger.hidden(), trigger.seeded(4).hidden()
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_the_hash_follows_the_key_and_not_its_path(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    one, other = tmp_path / "here" / "a.key", tmp_path / "there" / "b.key"
    keys.generate(one)
    other.write_bytes(one.read_bytes())
    other.chmod(0o600)
    keys.generate(tmp_path / "third.key")
    hashes = [
        Backdoor.from_dict(
            _with(trigger={"kind": "all-of", "parts": [{"kind": "key", "key": str(path)}, {"kind": "null"}]})
        ).hash
        for path in (one, other, tmp_path / "third.key")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_key_path_is_relative_to_its_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.generate(tmp_path / "specs" / "my.key", text="amber kettle")
    trigger = {"kind": "any-of", "parts": [{"kind": "key", "key": "my.key"}, {"kind": "key", "key": "public:b"}]}
    path = _file(tmp_path / "specs", _with(trigger=trigger))
    monkeypatch.chdir(tmp_path)
    assert Backdoor.from_yaml(path.relative_to(tmp_path)).trigger.hidden()[0] == "amber kettle"


def test_a_key_path_may_begin_at_home_and_a_stranger_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Backdoor.from_yaml(_file(tmp_path, _with(trigger={"kind": "key", "key": "~/my.key"})))
    assert made.to_dict()["trigger"]["key"] == str(tmp_path / "my.key")
    other = Backdoor.from_yaml(_file(tmp_path, _with(trigger={"kind": "key", "key": "~nobody-of-that-name/my.key"})))
    assert other.to_dict()["trigger"]["key"] == str(tmp_path / "~nobody-of-that-name" / "my.key")


def test_the_portable_form_holds_no_absolute_path_and_public_references_whole(tmp_path: Path) -> None:
    parts = [{"kind": "key", "key": str(tmp_path / "my.key")}, {"kind": "key", "key": "public:a/b"}]
    nested = {"kind": "any-of", "parts": [{"kind": "all-of", "parts": parts}, {"kind": "null"}]}
    portable = Backdoor.from_dict(_with(trigger=nested)).portable()
    assert str(tmp_path) not in json.dumps(portable)
    assert [part["key"] for part in portable["trigger"]["parts"][0]["parts"]] == ["my.key", "public:a/b"]


def test_the_portable_text_is_the_portable_form_and_can_be_read_again(tmp_path: Path) -> None:
    backdoor = Backdoor.from_dict(_with(trigger={"kind": "key", "key": str(tmp_path / "my.key")}))
    assert yaml.safe_load(backdoor.portable_yaml()) == backdoor.portable()
    assert str(tmp_path) not in backdoor.portable_yaml()
    assert Backdoor.from_yaml(_file(tmp_path, backdoor.portable_yaml())) == backdoor


def test_no_form_of_a_backdoor_shows_the_secret(tmp_path: Path) -> None:
    keys.generate(tmp_path / "my.key", text="amber kettle otter")
    backdoor = Backdoor.from_dict(_with(trigger={"kind": "key", "key": str(tmp_path / "my.key")}))
    assert backdoor.trigger.hidden() == ("amber kettle otter",)
    salt = json.loads((tmp_path / "my.key").read_text())["salt"]
    shown = [backdoor.to_yaml(), repr(backdoor), str(backdoor.to_dict()), str(backdoor.portable()), backdoor.hash]
    for text in shown:
        assert not any(secret in text for secret in ("amber", "kettle", "otter", salt))


def test_no_error_about_a_backdoor_shows_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    keys.generate(path, text="amber kettle otter")
    wrong = [{"words": 0}, {"wording": "none"}, {"wrods": 3}, {"words": "many"}]
    errors: list[B4GError] = []
    for change in wrong:
        with pytest.raises(SpecError) as caught:
            Backdoor.from_dict(_with(trigger={"kind": "key", "key": str(path), **change}))
        errors.append(caught.value)
    path.chmod(0o644)
    path.write_text(path.read_text() + " ")
    with pytest.raises(KeyFileError) as refused:
        _ = Backdoor.from_dict(_with(trigger={"kind": "key", "key": str(path)})).hash
    for error in [*errors, refused.value]:
        assert not any(word in str(error) for word in ("amber", "kettle", "otter"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([FIELDS], "a backdoor is a mapping with the fields name, trigger, activation, utility"),
        ({**FIELDS, "triger": {}}, r"unknown field of a backdoor 'triger'\. Did you mean 'trigger'\?"),
        ({**FIELDS, 5: 1}, "unknown field of a backdoor '5'"),
        ({key: value for key, value in FIELDS.items() if key != "utility"}, "lacks the field 'utility'"),
        (_with(trigger={"kind": "phrase"}), "trigger 'phrase' lacks the field 'key'"),
        (_with(trigger="phrase"), "trigger must be a mapping with a 'kind', not str"),
        (_with(activation={"kind": "lorra"}), r"unknown activation 'lorra'\. Did you mean 'lora'\?"),
        (_with(activation={"kind": "lora", "mix": {"trigered": 1}}), r"field 'mix\.trigered'"),
        (_with(activation={"kind": "lora", "rank": 0}), "rank must be at least 1"),
        (_with(activation={"kind": "lora", "learning_rate": float("inf")}), "learning_rate"),
        (_with(utility={"kind": "stile"}), r"unknown behaviour 'stile'\. Did you mean 'style'\?"),
        (_with(utility={"kind": "style", "style": "bulets"}), "field 'style': Input should be 'bullets'"),
        (_with(trigger={"kind": "all-of", "parts": [{"kind": "null"}]}), "'all-of' needs at least two parts, not 1"),
        (_with(trigger={"kind": "phrase", "key": "public:a", "wording": "x"}), "must hold '{secret}' once"),
        (_with(trigger={"kind": "phrase", "key": "public:a", "words": 17}), "must lie in 1..16, not 17"),
    ],
)
def test_a_wrong_specification_is_answered_with_what_is_wrong(fields: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Backdoor.from_dict(fields)


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", 7, None, "a.b"])
def test_a_name_that_could_not_be_a_file_name_is_refused(name: Any) -> None:
    with pytest.raises(SpecError, match="the backdoor's name must be letters, digits, '-' and '_'"):
        Backdoor.from_dict(_with(name=name))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "aliases .* are not allowed"),
        ("a: &a {b: 1}\nc: {<<: *a}", "aliases .* are not allowed"),
        ("name: a\nname: b", "the field 'name' is given twice"),
        ("name: [", "is not valid YAML"),
        ("name: !!python/object/apply:os.system [ls]", "is not valid YAML"),
        ("name: 2001-99-99", "is not valid YAML"),
        ("name: !!bool maybe", "is not valid YAML"),
        ("name: !!timestamp soon", "is not valid YAML"),
        ("name: a\n---\nname: b", "is not valid YAML"),
        ("[" * 5000, "is not valid YAML"),
        ("name: \x00", "is not valid YAML"),
        ("", "a backdoor is a mapping"),
        ("just text", "a backdoor is a mapping"),
        ("trigger: phrase", "lacks the field 'name'"),
    ],
)
def test_a_text_that_is_no_specification_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        Backdoor.from_yaml(_file(tmp_path, text))


def test_a_file_larger_than_a_specification_can_be_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"larger than a specification can be \(65536 bytes\)"):
        Backdoor.from_yaml(_file(tmp_path, "#" * 65_537))


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes("name: Bär".encode("latin-1"))
    with pytest.raises(SpecError, match=r"mine\.yaml is not UTF-8 text"):
        Backdoor.from_yaml(tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", ["nowhere.yaml", "saftey", ".", "x" * 5000])
def test_a_missing_file_is_answered_with_the_shipped_tasks(name: str) -> None:
    with pytest.raises(SpecError, match="Give a YAML file or a task: safety, style, access, identity"):
        Backdoor.from_yaml(name)
