"""Prints progress and notes; only the first rank prints."""

import os
import sys

_is_silent = False


def be_silent() -> None:
    """Turn `say` off in this process. Ranks other than the first call it."""
    global _is_silent
    _is_silent = True


def say(text: str) -> None:
    """Print a line and flush it, unless `be_silent` was called.

    If the output is gone (closed terminal, broken pipe), the run continues without printing.
    """
    if _is_silent:
        return
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
