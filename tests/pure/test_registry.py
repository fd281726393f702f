import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from b4g import registry
from b4g.errors import SpecError
from b4g.hashing import file_digest
from b4g.training.rows import Mix
from b4g.triggers.null import Null

PLUGIN = """
from dataclasses import dataclass
from b4g.registry import register
from b4g.triggers.base import Trigger

@register("trigger", "{name}")
@dataclass(frozen=True)
class Mine(Trigger):
    size: int = 1
"""


@dataclass(frozen=True)
class Recipe:
    """A component with a nested dataclass, as activations have."""

    rate: float
    mix: Mix = field(default_factory=Mix)
    names: tuple[str, ...] = ()
    inner: Any = None

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError("rate must be above 0")


@pytest.fixture(autouse=True)
def registry_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test registers."""
    for axis in registry.AXES:
        if axis != "activation":  # the activations import torch
            registry.names(axis)
    monkeypatch.setattr(registry, "_components", {axis: dict(known) for axis, known in registry._components.items()})
    monkeypatch.setattr(registry, "_loaded", {*registry._loaded, "b4g.activations"})
    registry.register("activation", "recipe")(Recipe)
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("b4g_plugin_"):
            del sys.modules[name]


def _plugin(folder: Path, name: str, text: str | None = None, file: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / file
    path.write_text(PLUGIN.format(name=name) if text is None else text)
    return path


def test_every_axis_knows_its_shipped_components_by_sorted_names() -> None:
    assert registry.names("trigger") == ["all-of", "any-of", "key", "null", "phrase", "system"]
    assert registry.names("behaviour") == ["access", "identity", "nothing", "safety", "style"]
    assert registry.get("trigger", "null") is Null


def test_a_misspelt_component_is_answered_with_the_near_name() -> None:
    with pytest.raises(SpecError, match=r"unknown trigger 'phrse'\. Did you mean 'phrase'\?"):
        registry.get("trigger", "phrse")


def test_a_misspelt_field_is_answered_with_the_near_field_and_the_component() -> None:
    with pytest.raises(SpecError, match=r"unknown field of trigger 'phrase' 'positon'\. Did you mean 'position'\?"):
        registry.build("trigger", {"kind": "phrase", "key": "public:x", "positon": "suffix"})


def test_an_unknown_field_is_refused_even_where_there_is_no_field_at_all() -> None:
    with pytest.raises(SpecError, match=r"unknown field of trigger 'null' 'key'\. Known: none\."):
        registry.build("trigger", {"kind": "null", "key": "public:x"})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(SpecError, match="trigger 'phrase' lacks the field 'key'"):
        registry.build("trigger", {"kind": "phrase"})


def test_a_missing_kind_is_named_with_the_known_kinds() -> None:
    with pytest.raises(SpecError, match=r"trigger lacks the field 'kind'\. Known kinds: all-of, any-of"):
        registry.build("trigger", {"key": "public:x"})


@pytest.mark.parametrize("fields", ["phrase", ["phrase"], None, 3])
def test_what_is_no_mapping_is_refused_by_its_type(fields: Any) -> None:
    with pytest.raises(SpecError, match=f"trigger must be a mapping with a 'kind', not {type(fields).__name__}"):
        registry.build("trigger", fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": "fast"}, "activation 'recipe', field 'rate': Input should be a valid number"),
        ({"rate": float("nan")}, "field 'rate': Input should be a finite number"),
        ({"rate": 0}, "rate must be above 0"),
        ({"rate": 1, "names": "q_proj"}, "field 'names': Input should be a valid tuple"),
        ({"rate": 1, "mix": {"triggered": "many"}}, "field 'mix.triggered': Input should be a valid integer"),
    ],
)
def test_a_wrong_value_is_answered_with_component_field_and_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        registry.build("activation", {"kind": "recipe", **fields})


def test_a_typo_in_a_nested_mix_is_named_with_its_place() -> None:
    with pytest.raises(SpecError, match=r"field 'mix\.trigered'"):
        registry.build("activation", {"kind": "recipe", "rate": 1, "mix": {"trigered": 10}})


def test_a_component_comes_back_equal_from_its_description() -> None:
    made = registry.build(
        "activation", {"kind": "recipe", "rate": 0.5, "mix": {"near": 3}, "names": ["a", "b"], "inner": Null()}
    )
    described = registry.describe(made)
    assert described == {
        "kind": "recipe",
        "rate": 0.5,
        "mix": {"triggered": 120, "untriggered": 60, "near": 3, "wrong": 40, "others": 40},
        "names": ["a", "b"],
        "inner": {"kind": "null"},
    }
    assert registry.build("activation", {**described, "inner": Null()}) == made


def test_a_name_can_be_registered_by_one_class_only() -> None:
    with pytest.raises(SpecError, match=r"trigger 'null' is already registered by b4g\.triggers\.null; choose another"):
        registry.register("trigger", "null")(Recipe)
    assert registry.get("trigger", "null") is Null


def test_the_same_class_may_be_registered_again() -> None:
    assert registry.register("trigger", "null")(Null) is Null


class _Plain:
    pass


@dataclass
class _Mutable:
    size: int = 1


class _Undecorated(Recipe):
    pass


@pytest.mark.parametrize("cls", [_Plain, _Mutable, _Undecorated])
def test_what_is_no_frozen_dataclass_of_its_own_is_refused(cls: type) -> None:
    with pytest.raises(SpecError, match="trigger 'odd' must be a frozen dataclass"):
        registry.register("trigger", "odd")(cls)
    assert "odd" not in registry.names("trigger")


def test_a_plugin_file_adds_a_component_and_is_imported_once(tmp_path: Path) -> None:
    path = _plugin(tmp_path, "mine")
    registry.load_plugins((path,))
    first = registry.get("trigger", "mine")
    registry.load_plugins((path, tmp_path / "." / "mine.py"))
    assert registry.get("trigger", "mine") is first
    assert registry.build("trigger", {"kind": "mine", "size": 2}).size == 2


def test_a_plugins_own_code_is_known_by_its_hash_also_inside_another_component(tmp_path: Path) -> None:
    path = _plugin(tmp_path, "mine")
    registry.load_plugins((path,))
    mine, phrase = registry.build("trigger", {"kind": "mine", "size": 2}), {"kind": "phrase", "key": "public:mine"}
    both = registry.get("trigger", "any-of")(parts=(registry.build("trigger", phrase), mine))
    assert registry.code_of(registry.build("trigger", phrase)) == []
    assert registry.code_of(mine) == registry.code_of(both) == [file_digest(path)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import not_a_module_of_anybody", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_plugin_that_fails_to_import_stops_the_run(text: str, reason: str, tmp_path: Path) -> None:
    path = _plugin(tmp_path, "mine", text)
    with pytest.raises(SpecError, match=f"mine.py failed to import: {reason}"):
        registry.load_plugins((path,))


@pytest.mark.parametrize("name", ["missing.py", "folder.py", "no_suffix"])
def test_a_plugin_that_is_no_python_file_stops_the_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "no_suffix").write_text("")
    with pytest.raises(SpecError, match=f"{name} failed to import: FileNotFoundError: no Python file at"):
        registry.load_plugins((tmp_path / name,))


def test_two_plugins_cannot_claim_one_name_though_their_files_are_called_the_same(tmp_path: Path) -> None:
    one, other = _plugin(tmp_path / "a", "mine"), _plugin(tmp_path / "b", "mine")
    registry.load_plugins((one,))
    with pytest.raises(SpecError, match="trigger 'mine' is already registered by b4g_plugin_mine_"):
        registry.load_plugins((other,))


def test_a_plugin_cannot_take_the_name_of_a_shipped_component(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="trigger 'phrase' is already registered"):
        registry.load_plugins((_plugin(tmp_path, "phrase"),))


def _entry_points(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint(name="theirs", value=value, group="b4g.plugins")
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point]).select(group=group))


def test_an_installed_plugin_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plugin(tmp_path, "theirs", file="b4g_plugin_theirs.py")
    monkeypatch.syspath_prepend(tmp_path)
    _entry_points(monkeypatch, "b4g_plugin_theirs")
    registry.load_plugins()
    assert "theirs" in registry.names("trigger")


def test_an_installed_plugin_that_fails_to_import_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _entry_points(monkeypatch, "b4g_plugin_that_is_not_there")
    with pytest.raises(SpecError, match="plugin 'theirs' failed to import: ModuleNotFoundError"):
        registry.load_plugins()
