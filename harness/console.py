"""Lines for people."""

import os
import sys
from collections.abc import Callable

Say = Callable[[str], None]

_is_silent = False


def be_silent() -> None:
    """Stop printing on this rank: the first rank speaks for all."""
    global _is_silent
    _is_silent = True


def say(text: str) -> None:
    """Print a line at once, unless this process is to be silent.

    Where nobody reads any more (a closed terminal, a dead pipe) the run goes on in silence.
    """
    if _is_silent:
        return
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
