"""Content hashes and explicit randomness: the identity of a cell and every draw come from here."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any


def canonical(value: Any) -> str:
    """Return one JSON text per value: keys sorted, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, length: int = 16) -> str:
    """Return the first ``length`` hex digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def file_digest(path: Path, length: int = 16) -> str:
    """Return the first ``length`` hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:length]


def rng(*parts: Any) -> random.Random:
    """Return a generator that depends on the parts alone, so no draw depends on another's order."""
    return random.Random(int(digest([str(part) for part in parts], 32), 16))
