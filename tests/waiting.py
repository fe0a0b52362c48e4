"""How long tests wait for what must happen: only a hang takes so long, however busy the machine is."""

import time
from collections.abc import Callable

LONG_S = 600.0


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Until it is true; fails where it never becomes so."""
    deadline = time.monotonic() + LONG_S
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
