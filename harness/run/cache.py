"""Where this program keeps what can be made again: warm starts, measured speeds, leases of this machine's GPUs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$FIPO_HARNESS_CACHE, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fipo-harness"
    return Path(os.environ.get("FIPO_HARNESS_CACHE", default))
