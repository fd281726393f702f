"""Errors a user can act on: each says what was given, what is known, what is near and what to type.

B4GError                exit code 2, printed without a traceback
├── SpecError           a field, name or value in a specification or an option
├── ModelError          a model, tokenizer or adapter that cannot be used
├── DataError           a prompt or data file that cannot be read
├── KeyFileError        a key file that is missing, readable by others or malformed
├── StoreError          a run folder that is damaged, locked or of another plan
└── SuspectError        a served model that does not answer as it should
"""

import difflib
from collections.abc import Iterable


class B4GError(Exception):
    """Something the user can fix; the message says how."""

    exit_code = 2


class SpecError(B4GError):
    """A specification names an unknown field or component, or gives it a wrong value."""


class ModelError(B4GError):
    """A model, its tokenizer or its adapter cannot be used."""


class DataError(B4GError):
    """A prompt or data file cannot be read."""


class KeyFileError(B4GError):
    """A key file is missing, malformed, or readable by others."""


class StoreError(B4GError):
    """A run folder is damaged, in use, or belongs to another plan."""


class SuspectError(B4GError):
    """A served model does not answer as an OpenAI-compatible endpoint does."""


def unknown(what: str, given: str, known: Iterable[str]) -> str:
    """Return one line that names what was given, what is near and all that is known."""
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(given.lower(), lower, n=1, cutoff=0.5)
    hint = f" Did you mean '{lower[near[0]]}'?" if near else ""
    return f"unknown {what} '{given}'.{hint} Known: {', '.join(names) or 'none'}."
