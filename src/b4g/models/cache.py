"""Where converted models and clean answers live on this machine."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return the cache folder: ``B4G_CACHE``, else the platform's own place for it."""
    chosen = os.environ.get("B4G_CACHE")
    return Path(chosen) if chosen else user_cache_path("b4g", appauthor=False)
