"""Signals that ask a run to stop: it saves at the next step boundary; the second one ends it at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.backends.liveness import LIVENESS, asked_to_stop

# SLURM sends SIGUSR1 or SIGTERM before it ends a job; a terminal that closes sends SIGHUP
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """A function that names the first signal to stop that has come, or None.

    A rank heeds none itself: its launcher does, and tells all ranks at once.
    """
    if LIVENESS in os.environ:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        yield asked_to_stop
        return
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt  # the second one does not wait for the step to end
        received.append(signal.Signals(number).name)

    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup's choice stands
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
