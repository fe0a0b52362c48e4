"""What a person sees while runs go on: a line per event, and how far all are, in one place where it is a terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.status import Status

from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, latest_metrics
from sweeps.workers.endings import early_end, is_data

PLAIN_EVERY_S = 30.0
LIVE_EVERY_S = 0.5


def make_console() -> Console:
    """stdout; wide enough for a table where it is no terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=140)


def minutes(seconds: float) -> str:
    """A duration in words a person plans by."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@dataclass
class Display:
    """Shows a text now and then: below all else on a terminal, printed every half minute elsewhere."""

    console: Console
    text: Callable[[], str]
    status: Status | None = None
    drawn: float = field(default_factory=time.monotonic)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the text while what is inside goes on."""
        with self.console.status(self.text()) as self.status:
            yield

    def tick(self) -> None:
        """Show the text anew if it is time."""
        is_live = self.status is not None and self.console.is_terminal
        if time.monotonic() - self.drawn < (LIVE_EVERY_S if is_live else PLAIN_EVERY_S):
            return
        self.drawn = time.monotonic()
        if self.status and is_live:
            self.status.update(self.text())
        else:
            self.console.print(self.text())


@dataclass
class Progress:
    """The state of a comparison's runs, and its display. `attempts`: how often a run that is killed is started."""

    runs: Sequence[PlannedRun]
    console: Console
    attempts: int = 1
    running: Sequence[Attempt] = ()
    failures: dict[str, list[int]] = field(default_factory=dict)  # by run: exit codes of its processes, if not 0
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)  # by run: its last metrics
    settled: set[str] = field(default_factory=set)  # runs that have an outcome
    started: float = field(default_factory=time.monotonic)
    before: int = 0  # steps that were recorded before this start

    def __post_init__(self) -> None:
        for run in self.runs:
            self.look_at(run)
        self.before = sum(map(steps_in, self.latest.values()))
        self.display = Display(self.console, self.text)

    def look_at(self, run: PlannedRun) -> None:
        """Take in what the run has recorded."""
        if metrics := latest_metrics(run.folder):
            self.latest[run.name] = metrics
        if is_data(run):
            self.settled.add(run.name)

    def update(self, running: Sequence[Attempt], ended: Sequence[Attempt]) -> None:
        """Take in what happened and show it."""
        self.running = running
        for attempt in (*running, *ended):
            self.look_at(attempt.run)
        for attempt in ended:
            if code := attempt.process.poll():
                self.failures.setdefault(attempt.run.name, []).append(code)
            self.console.print(self.line(attempt))
        self.display.tick()

    def to_be_repeated(self, run: PlannedRun) -> bool:
        """Whether the run has no outcome since a signal ended its process, and may be tried again."""
        codes = self.failures.get(run.name, [])
        return run.name not in self.settled and 0 < len(codes) < self.attempts and codes[-1] < 0

    def is_given_up(self, run: PlannedRun) -> bool:
        """Whether the run failed, and is not tried again by this start."""
        return run.name in self.failures and run.name not in self.settled and not self.to_be_repeated(run)

    def seconds_left(self) -> float | None:
        """At the pace of this start; None before its first step."""
        done = sum(map(steps_in, self.latest.values())) - self.before
        left = sum(
            max(0, run.config.run.steps - steps_in(self.latest.get(run.name)))
            for run in self.runs
            if run.name not in self.settled and not self.is_given_up(run)
        )
        return (time.monotonic() - self.started) / done * left if done > 0 else None

    def text(self) -> str:
        """How many runs have an outcome or failed, the time left, and the steps of those under way."""
        left, failed = self.seconds_left(), sum(map(self.is_given_up, self.runs))
        parts = [self.count(), *([f"{failed} failed"] if failed else [])]
        parts += ["starting" if left is None else f"{minutes(left)} left"]
        return "; ".join([", ".join(parts), *map(steps_of, self.running)])

    def line(self, attempt: Attempt) -> str:
        """What became of a run."""
        run, early = attempt.run, early_end(attempt.run)
        if early or (run.name not in self.settled and attempt.failure):
            word = "will be started again" if self.to_be_repeated(run) else (early or "failed").upper()
            return f"{run.name}: {word}: {attempt.failure} (log: {run.log})"
        metrics = self.latest[run.name]
        return (
            f"{run.name}: accuracy {metrics['rollout/accuracy']:.2f}, "
            f"{metrics['rollout/response_tokens_mean']:.0f} tokens, {metrics['time/elapsed_s']:.0f} s ({self.count()})"
        )

    def count(self) -> str:
        """How many runs have an outcome."""
        return f"{len(self.settled)} of {len(self.runs)} runs"


def steps_in(metrics: dict[str, Any] | None) -> int:
    """Training steps that a run has reported."""
    return int(metrics["step"]) + 1 if metrics else 0


def steps_of(attempt: Attempt) -> str:
    """A running process's run, with the steps that it has made of all."""
    return f"{attempt.run.name} {steps_in(latest_metrics(attempt.run.folder))}/{attempt.run.config.run.steps}"
