"""Signals that ask a run to stop. The first makes it save at the next step boundary; the second ends it at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.backends.phases import own

# SLURM sends SIGUSR1 or SIGTERM before it ends a job; a terminal that closes sends SIGHUP
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """Catch stop signals. Yields a function that returns the name of the first one received, or None.

    In a rank, a second signal does not end the process, because SLURM and torchrun may both deliver the same one. After
    the block a rank ignores stop signals: torchrun sends one when another rank has exited, and it must not change this
    rank's exit code.
    """
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received and not own.deadline_s:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if own.deadline_s else handler)
