"""The only registry: five axes of components, each a frozen dataclass whose fields are its options."""

import dataclasses
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from b4g.errors import SpecError, unknown
from b4g.hashing import digest, file_digest

Axis = Literal["trigger", "behaviour", "activation", "tamper", "scanner"]
AXES: dict[Axis, str] = {
    "trigger": "b4g.triggers",
    "behaviour": "b4g.behaviours",
    "activation": "b4g.activations",
    "tamper": "b4g.tampers",
    "scanner": "b4g.scanners",
}
C = TypeVar("C", bound=type)
_components: dict[Axis, dict[str, type]] = {axis: {} for axis in AXES}
_loaded: set[str] = set()


def register(axis: Axis, name: str) -> Callable[[C], C]:
    """Return a decorator that files a frozen dataclass under ``name`` on ``axis``."""

    def file(cls: C) -> C:
        # A subclass without its own decorator inherits the marks of a dataclass, but not its new fields.
        params = vars(cls).get("__dataclass_params__")
        if params is None or not params.frozen:
            raise SpecError(f"{axis} '{name}' must be a frozen dataclass: put @dataclass(frozen=True) below @register")
        other = _components[axis].get(name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SpecError(f"{axis} '{name}' is already registered by {other.__module__}; choose another name")
        cls.kind = name  # type: ignore[attr-defined]
        _components[axis][name] = cls
        return cls

    return file


def names(axis: Axis) -> list[str]:
    """Return the names known on an axis, sorted."""
    _load_builtin(axis)
    return sorted(_components[axis])


def get(axis: Axis, name: str) -> type:
    """Return the component class of that name, or raise `SpecError` with the near names."""
    _load_builtin(axis)
    if name not in _components[axis]:
        raise SpecError(unknown(axis, name, _components[axis]))
    return _components[axis][name]


def build(axis: Axis, fields: Mapping[str, Any]) -> Any:
    """Return the component that a mapping describes: ``kind`` names it, the rest are its fields."""
    if not isinstance(fields, Mapping):
        raise SpecError(f"{axis} must be a mapping with a 'kind', not {type(fields).__name__}")
    if "kind" not in fields:
        raise SpecError(f"{axis} lacks the field 'kind'. Known kinds: {', '.join(names(axis))}.")
    cls = get(axis, str(fields["kind"]))
    options = {key: value for key, value in fields.items() if key != "kind"}
    known = {field.name: field for field in dataclasses.fields(cls)}
    for key in options:
        if key not in known:
            raise SpecError(unknown(f"field of {axis} '{fields['kind']}'", str(key), known))
    for name, field in known.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if no_default and name not in options:
            raise SpecError(f"{axis} '{fields['kind']}' lacks the field '{name}'")
    try:
        return _adapter(cls).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        raise SpecError(f"{axis} '{fields['kind']}', field '{where}': {first['msg']}") from None


def describe(component: Any) -> dict[str, Any]:
    """Return the mapping that `build` turns back into an equal component."""
    fields = {f.name: _plain(getattr(component, f.name)) for f in dataclasses.fields(component)}
    return {"kind": component.kind, **fields}


def code_of(component: Any) -> list[str]:
    """Return the hashes of the plug-in files that a component, and those within it, are written in; none for the project's own.

    A stage's numbers may move with them, and they have no version of their own. What a plug-in imports is not looked at.
    """
    found: set[str] = set()
    for cls in type(component).__mro__:
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        if file and cls.__module__.partition(".")[0] != "b4g" and hasattr(cls, "kind"):
            found.add(file_digest(Path(file)))
    within = [getattr(component, field.name) for field in dataclasses.fields(component)]
    for value in within:
        for part in value if isinstance(value, tuple | list) else (value,):
            if dataclasses.is_dataclass(part) and not isinstance(part, type):
                found.update(code_of(part))
    return sorted(found)


def load_plugins(paths: tuple[Path, ...] = ()) -> None:
    """Import installed ``b4g.plugins`` entry points and the given files; one that fails stops the run."""
    for point in entry_points(group="b4g.plugins"):
        _import(lambda point=point: point.load(), f"plugin '{point.name}'")  # type: ignore[misc]
    for path in paths:
        if str(path.resolve()) not in _loaded:
            _import(lambda path=path: _import_file(path), f"plugin {path}")  # type: ignore[misc]
            _loaded.add(str(path.resolve()))


def _import(load: Callable[[], object], what: str) -> None:
    try:
        load()
    except (Exception, SystemExit) as error:
        raise SpecError(f"{what} failed to import: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> None:
    # Two files of one name are two modules, so that neither replaces the other's components.
    name = f"b4g_plugin_{path.stem}_{digest(str(path.resolve()), 8)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no Python file at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


def _load_builtin(axis: Axis) -> None:
    package = AXES[axis]
    if package in _loaded:
        return
    _loaded.add(package)
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def _adapter(cls: type) -> TypeAdapter[Any]:
    if not hasattr(cls, "__pydantic_config__"):
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
        cls.__pydantic_config__ = config  # type: ignore[attr-defined]
    return TypeAdapter(cls)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and hasattr(value, "kind"):
        return describe(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
