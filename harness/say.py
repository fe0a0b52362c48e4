"""Lines for people."""

import os
import sys
from collections.abc import Callable

Say = Callable[[str], None]


def say(text: str) -> None:
    """Print a line at once, on the first rank of a run.

    Where nobody reads any more (a closed terminal, a dead pipe) the run goes on in silence.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
