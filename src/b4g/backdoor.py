"""The triplet (T, A, U): trigger, activation, utility, and its YAML form."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from b4g import registry
from b4g.activations.base import Activation
from b4g.behaviours.base import Behaviour
from b4g.claims import Claim, read_claims, write_claims
from b4g.errors import SpecError, unknown
from b4g.hashing import digest
from b4g.keys import PUBLIC
from b4g.triggers.base import Trigger

TASKS = ("safety", "style", "access", "identity")
_FIELDS = ("name", "trigger", "activation", "utility")
_KNOWN = (*_FIELDS, "claims")
_LARGEST_BYTES = 65_536


@dataclass(frozen=True)
class Backdoor:
    """A trigger bound to a behaviour by an activation (arXiv 2603.07452)."""

    name: str
    trigger: Trigger
    activation: Activation
    utility: Behaviour
    claims: tuple[Claim, ...] = ()
    """What the owner says the card will show. No number depends on them, so they are in no hash."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Backdoor":
        """Return the backdoor of a mapping; a missing, unknown or wrong field raises `SpecError` and names it."""
        if not isinstance(fields, Mapping):
            raise SpecError("a backdoor is a mapping with the fields " + ", ".join(_FIELDS))
        for field in fields:
            if field not in _KNOWN:
                raise SpecError(unknown("field of a backdoor", str(field), _KNOWN))
        for field in _FIELDS:
            if field not in fields:
                raise SpecError(f"the backdoor lacks the field '{field}'")
        name = fields["name"]
        if not isinstance(name, str) or not name or not all(char.isalnum() or char in "-_" for char in name):
            raise SpecError(f"the backdoor's name must be letters, digits, '-' and '_', not {name!r}")
        return cls(
            name,
            registry.build("trigger", fields["trigger"]),
            registry.build("activation", fields["activation"]),
            registry.build("behaviour", fields["utility"]),
            read_claims(fields.get("claims", {})),
        )

    @classmethod
    def from_yaml(cls, source: Path | str) -> "Backdoor":
        """Return the backdoor of a YAML file, or of the shipped task of that name; key paths are relative to the file."""
        path = Path(source)
        if str(source) in TASKS and not path.is_file():
            text = resources.files("b4g.tasks").joinpath(f"{source}.yaml").read_text("utf-8")
            return cls.from_dict(_parse(text, str(source)))
        if not _is_file(path):
            raise SpecError(f"no specification at {path}. Give a YAML file or a task: {', '.join(TASKS)}.")
        if path.stat().st_size > _LARGEST_BYTES:
            raise SpecError(f"{path} is larger than a specification can be ({_LARGEST_BYTES} bytes)")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise SpecError(f"{path} is not UTF-8 text") from None
        fields = _parse(text, str(path))
        if isinstance(fields, dict) and isinstance(fields.get("trigger"), dict):
            fields["trigger"] = _anchored(fields["trigger"], path.resolve().parent)
        return cls.from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that `from_dict` turns back into an equal backdoor; it holds no secret."""
        fields = {
            "name": self.name,
            "trigger": registry.describe(self.trigger),
            "activation": registry.describe(self.activation),
            "utility": registry.describe(self.utility),
        }
        return {**fields, "claims": write_claims(self.claims)} if self.claims else fields

    def to_yaml(self) -> str:
        """Return the YAML text of `to_dict`."""
        return _dump(self.to_dict())

    @property
    def hash(self) -> str:
        """Identity of the backdoor: every option, and the salted digest of each secret in place of its path.

        Claims are left out: they move no number.
        """
        fields = self.to_dict()
        fields.pop("claims", None)
        fields["trigger"] = _without_paths(fields["trigger"])
        return digest([fields, self.trigger.tags()])

    def seeded(self, seed: int) -> "Backdoor":
        """Return the backdoor with its public keys, if any, derived from ``seed``."""
        return dataclasses.replace(self, trigger=self.trigger.seeded(seed))

    def portable(self) -> dict[str, Any]:
        """Return `to_dict` with key paths cut to file names: fit to be published beside the weights."""
        fields = self.to_dict()
        fields["trigger"] = _mapped(fields["trigger"], lambda ref: ref if ref.startswith(PUBLIC) else Path(ref).name)
        return fields

    def portable_yaml(self) -> str:
        """Return the YAML text of `portable`."""
        return _dump(self.portable())


def _dump(fields: dict[str, Any]) -> str:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)


class _Loader(yaml.SafeLoader):
    """A safe loader without aliases: nothing can grow on being read."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise SpecError("aliases (*name) are not allowed in a specification")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        given = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for place, key in enumerate(given) if key in given[:place]), None)
        if twice is not None:
            raise SpecError(f"the field '{twice}' is given twice")
        return super().construct_mapping(node, deep)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    # PyYAML lets a tag or a date that is none end in errors of Python's own.
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise SpecError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def _mapped(trigger: Any, change: Any) -> Any:
    fields = dict(trigger)
    if isinstance(fields.get("key"), str):
        fields["key"] = change(fields["key"])
    if isinstance(fields.get("parts"), list):
        fields["parts"] = [_mapped(part, change) if isinstance(part, dict) else part for part in fields["parts"]]
    return fields


def _anchored(trigger: dict[str, Any], folder: Path) -> Any:
    return _mapped(trigger, lambda ref: ref if ref.startswith(PUBLIC) else str(folder / _from_home(ref)))


def _from_home(ref: str) -> Path:
    try:
        return Path(ref).expanduser()
    except RuntimeError:  # "~name" of nobody: a file of that name
        return Path(ref)


def _without_paths(trigger: dict[str, Any]) -> Any:
    return _mapped(trigger, lambda ref: ref.split("@")[0] if ref.startswith(PUBLIC) else "file")
