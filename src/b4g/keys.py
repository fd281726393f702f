"""Secrets: key files (mode 0600), the benchmark's public keys, and text with secrets taken out.

A key reference is what a specification holds in place of a secret: ``public:NAME`` (derived from a seed, known to
everyone, for benchmarks) or the path of a key file.
"""

import json
import math
import os
import random
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from b4g.errors import KeyFileError
from b4g.hashing import digest, rng

PUBLIC = "public:"
FORMAT = 1
REDACTED = "[secret]"
_MOST_WORDS = 64


@dataclass(frozen=True)
class Key:
    """A secret phrase; its words never show in ``repr``."""

    words: tuple[str, ...] = field(repr=False)
    salt: str = field(repr=False)
    bits: float | None
    """Entropy in bits, or None where the owner chose the text."""
    public: bool = False

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(self.words)

    @property
    def tag(self) -> str:
        """A salted digest: tells keys apart in records and cell ids, and can't be searched without the salt."""
        return digest([self.salt, self.text], 12)


@lru_cache(maxsize=1)
def word_list() -> tuple[str, ...]:
    """Return the 1,024 words that keys are drawn from: 10 bits a word."""
    text = resources.files("b4g.data").joinpath("words.txt").read_text("utf-8")
    return tuple(text.split())


def draw(words: int, source: random.Random) -> Key:
    """Return a key of distinct words drawn from `word_list`."""
    chosen = tuple(source.sample(word_list(), words))
    return Key(chosen, f"{source.getrandbits(128):032x}", bits=_bits(words))


def read(reference: str, words: int = 3) -> Key:
    """Return the key that a reference stands for; ``words`` sizes a public key and is ignored for a file."""
    if reference.startswith(PUBLIC):
        key = draw(words, rng("b4g public key", reference, words))
        return Key(key.words, key.salt, key.bits, public=True)
    try:
        modified = Path(reference).stat().st_mtime_ns
    except (OSError, ValueError):
        raise KeyFileError(f"no key file at {reference}. Make one with: b4g keygen {reference}") from None
    return _read_file(Path(reference), modified)


def with_seed(reference: str, seed: int) -> str:
    """Return the reference of the same public key under another seed; a key file stays what it is."""
    return f"{reference.partition('@')[0]}@{seed}" if reference.startswith(PUBLIC) else reference


def generate(path: Path, words: int = 4, text: str | None = None) -> Key:
    """Write a new key file (mode 0600, never overwritten) and return its key; ``text`` is a secret of the owner's."""
    if text is not None and not 1 <= len(text.split()) <= _MOST_WORDS:
        raise KeyFileError(f"a secret text has 1 to {_MOST_WORDS} words, not {len(text.split())}")
    if not 1 <= words <= 16:
        raise KeyFileError(f"a key has 1 to 16 words, not {words}")
    chosen = tuple(text.split()) if text else draw(words, secrets.SystemRandom()).words
    bits = None if text else _bits(words)
    record = {"b4g_key": FORMAT, "words": list(chosen), "salt": secrets.token_hex(16), "bits": bits}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} exists; a key is never overwritten. Choose another name.") from None
    except OSError as error:
        raise KeyFileError(f"{path} can't be written: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file)
    return read(str(path))


def redact(text: str, hidden: Iterable[str]) -> str:
    """Return the text with every secret, in any letter case and spacing, replaced by `REDACTED`."""
    found = sorted({secret for secret in hidden if secret.split()}, key=lambda secret: (-len(secret), secret))
    either = "|".join(r"\s+".join(map(re.escape, secret.split())) for secret in found)
    return re.sub(either, REDACTED, text, flags=re.IGNORECASE) if either else text


@lru_cache(maxsize=64)
def _read_file(path: Path, _modified: int) -> Key:
    if not path.is_file():
        raise KeyFileError(f"{path} is no file. Make a key file with: b4g keygen NAME")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"{path} can be read by others. Type: chmod 600 {path}")
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["b4g_key"] != FORMAT:
            raise KeyFileError(f"{path} is a key file of format {record['b4g_key']}; this b4g reads format {FORMAT}")
        words = tuple(record["words"])
        if isinstance(record["words"], str) or not all(
            isinstance(word, str) and len(word.split()) == 1 for word in words
        ):
            raise TypeError("words")
        bits = None if record["bits"] is None else float(record["bits"])
        key = Key(words, str(record["salt"]), bits)
    except OSError as error:
        raise KeyFileError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyFileError(f"{path} is no key file ({type(error).__name__}). Make one with: b4g keygen NAME") from None
    if not 1 <= len(key.words) <= _MOST_WORDS:
        raise KeyFileError(f"{path} holds a key of {len(key.words)} words; a key has 1 to {_MOST_WORDS}")
    return key


def _bits(words: int) -> float:
    return round(sum(math.log2(len(word_list()) - drawn) for drawn in range(words)), 2)
