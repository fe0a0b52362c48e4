"""What a person sees while runs go on: a line per event, and how far all are, in one place where it is a terminal."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console

from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, early_end, is_data, last_words, latest_metrics

PLAIN_EVERY_S = 30.0
ATTEMPTS = 3  # processes at most that one call starts for a run that is killed


def make_console() -> Console:
    """stdout; wide enough for a table where it is no terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=140)


def minutes(seconds: float) -> str:
    """A duration in words a person plans by."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Display:
    """Shows a text now and then: below all else on a terminal, printed every half minute elsewhere.

    shown: the context in which a terminal shows it.
    """

    def __init__(self, console: Console, text: Callable[[], str]) -> None:
        self.console, self.text, self.shown = console, text, console.status(text())
        self.printed = time.monotonic()

    def tick(self) -> None:
        """Show the text anew if it is time."""
        if self.console.is_terminal:
            self.shown.update(self.text())
        elif time.monotonic() - self.printed > PLAIN_EVERY_S:
            self.printed = time.monotonic()
            self.console.print(self.text())


class Progress:
    """The state of a comparison's runs, and its display."""

    def __init__(self, runs: Sequence[PlannedRun], console: Console) -> None:
        self.runs, self.console, self.started = runs, console, time.monotonic()
        self.latest = {run.name: latest_metrics(run.folder) for run in runs}
        self.before = sum(map(steps_in, self.latest.values()))  # steps that were recorded before this start
        self.settled = {run.name for run in runs if is_data(run)}  # runs that have an outcome
        self.died = dict[str, int]()  # by run: how many of its processes were killed
        self.failed = set[str]()  # runs that are not tried again by this start
        self.running: Sequence[Attempt] = ()
        self.display = Display(console, self.text)

    def update(self, running: Iterable[Attempt], ended: Sequence[Attempt]) -> list[PlannedRun]:
        """Take in what happened and show it; the runs that are to be started again, since a signal ended them."""
        self.running, again = list(running), []
        for attempt in (*self.running, *ended):
            self.latest[attempt.run.name] = latest_metrics(attempt.run.folder)
        for run, ending in ((attempt.run, attempt.ending()) for attempt in ended):
            self.died[run.name] = self.died.get(run.name, 0) + (ending.kind == "died")
            if is_data(run):
                self.settled.add(run.name)
                word = (early_end(run) or "").upper()
            elif ending.kind == "died" and self.died[run.name] < ATTEMPTS:
                again.append(run)
                word = "will be started again"
            else:
                self.failed.add(run.name)
                word = "FAILED"
            killed = f"{ending.reason} (out of memory, if nobody did it)"
            words = killed if ending.kind == "died" else last_words(run) or ending.reason
            self.console.print(f"{run.name}: {word}: {words} (log: {run.log})" if word else self.line(run))
        self.display.tick()
        return again

    def seconds_left(self) -> float | None:
        """At the pace of this start; None before its first step."""
        done = sum(map(steps_in, self.latest.values())) - self.before
        open_runs = [run for run in self.runs if run.name not in self.settled | self.failed]
        left = sum(max(0, run.config.run.steps - steps_in(self.latest[run.name])) for run in open_runs)
        return (time.monotonic() - self.started) / done * left if done > 0 else None

    def text(self) -> str:
        """How many runs have an outcome or failed, the time left, and the steps of those under way."""
        left = self.seconds_left()
        parts = [self.count(), *([f"{len(self.failed)} failed"] if self.failed else [])]
        parts += ["starting" if left is None else f"{minutes(left)} left"]
        return "; ".join([", ".join(parts), *map(steps_of, self.running)])

    def line(self, run: PlannedRun) -> str:
        """What became of a run that finished."""
        metrics = self.latest[run.name]
        return (
            f"{run.name}: accuracy {metrics['rollout/accuracy']:.2f}, "
            f"{metrics['rollout/response_tokens_mean']:.0f} tokens, {metrics['time/elapsed_s']:.0f} s ({self.count()})"
        )

    def count(self) -> str:
        """How many runs have an outcome."""
        return f"{len(self.settled)} of {len(self.runs)} runs"


def steps_in(metrics: dict[str, Any]) -> int:
    """Training steps that a run has reported."""
    return int(metrics["step"]) + 1 if metrics else 0


def steps_of(attempt: Attempt) -> str:
    """A running process's run, with the steps that it has made of all."""
    return f"{attempt.run.name} {steps_in(latest_metrics(attempt.run.folder))}/{attempt.run.config.run.steps}"
