"""Signals that ask a run to stop: it saves at the next step boundary; a second one ends it at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.backends.phases import own

# SLURM sends SIGUSR1 or SIGTERM before it ends a job; a terminal that closes sends SIGHUP
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """A function that names the first stop signal received, or None.

    A rank may get the same signal from SLURM and from torchrun, so it counts one only, and from torchrun as it exits
    after another has: its exit code must be its own, so it ignores what comes then.
    """
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received and not own.deadline_s:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup's choice stands
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if own.deadline_s else handler)
