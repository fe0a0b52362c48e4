"""Prints lines and, between them, progress and the time left; only the first rank prints. Spells our commands."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

MOVING_S = 0.2  # seconds between two states of the moving line on a terminal
LINES_S = 60.0  # elsewhere: seconds without output before a line of progress


class Output:
    """Standard output, as a run uses it. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.is_silent = False
        self.is_moving = False  # whether the cursor stands behind a moving line
        self.begin()

    def begin(self) -> None:
        """Forget what was printed of another run, or by the process that this one was forked from."""
        self.part = ""  # of the run, such as "step 3/20"
        self.ends_at: float | None = None  # when the run is expected to end
        self.printed_at = self.clock()

    def say(self, text: str) -> None:
        """Print a line and flush it; if the output is gone (closed terminal, broken pipe), nothing."""
        self.write(f"{text}\n")

    def doing(self, text: str) -> None:
        """Say what is going on: on a terminal in a line that moves, elsewhere in a line a minute."""
        is_terminal = sys.stdout.isatty()
        if self.is_silent or self.clock() - self.printed_at < (MOVING_S if is_terminal else LINES_S):
            return
        line = f"{self.part}: {text}" if self.part else text
        if self.ends_at is not None:
            line += f", {in_words(self.ends_at - self.clock())} left"
        if is_terminal:
            self.write(line[: shutil.get_terminal_size().columns - 1])
            self.is_moving = True
        else:
            self.write(f"{line}\n")

    def clear(self) -> None:
        """Take the moving line away, before something else is printed."""
        if self.is_moving:
            self.write("")

    def expect(self, seconds: float) -> None:
        """Set how long the run still takes."""
        self.ends_at = self.clock() + seconds

    def write(self, text: str) -> None:
        if self.is_silent:
            return
        try:
            print("\r\x1b[K" * self.is_moving + text, end="", flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.is_moving = False
        self.printed_at = self.clock()


def in_words(seconds: float) -> str:
    """A duration, such as 95 s, 12 min or 3.5 h."""
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def command(package: str, *words: object) -> str:
    """A command of ours as it can be pasted here, such as `.venv/bin/python -m harness resume runs/x`."""
    program, arguments = Path(sys.argv[0]).absolute(), list(map(str, words))
    if program.stem != "fipo-harness":  # as it is installed
        program, arguments = Path(sys.executable), ["-m", package, *arguments]
    on_path = [name for name in ("python", "python3", program.name) if shutil.which(name) == str(program)]
    spelled = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    return shlex.join([on_path[0] if on_path else str(spelled), *arguments])


output = Output()
say, doing, expect = output.say, output.doing, output.expect


def be_silent() -> None:
    """Print nothing from here on. Ranks other than the first call it."""
    output.is_silent = True
