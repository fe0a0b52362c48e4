"""What a person sees while runs go on: a live table on a terminal, a plain line per event elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, latest_metrics
from sweeps.workers.endings import early_end, is_data

PLAIN_EVERY_S = 30.0
LIVE_EVERY_S = 0.5
MOST_ROWS = 20  # arms below each other


def make_console() -> Console:
    """stdout; wide enough for a table where it is no terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=140)


def minutes(seconds: float) -> str:
    """A duration in words a person plans by."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@dataclass
class Display:
    """Shows a table now and then: in its place on a terminal, printed again every half minute elsewhere."""

    console: Console
    table: Callable[[], Table]
    live: Live | None = None
    drawn: float = field(default_factory=time.monotonic)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while what is inside goes on, and its last state."""
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=2) as self.live:
                yield
                self.live.update(self.table())
        else:
            yield
            self.console.print(self.table())

    def tick(self) -> None:
        """Draw the table anew if it is time."""
        if time.monotonic() - self.drawn < (LIVE_EVERY_S if self.live else PLAIN_EVERY_S):
            return
        self.drawn = time.monotonic()
        self.live.update(self.table()) if self.live else self.console.print(self.table())


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
        self.display = Display(self.console, self.table)

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

    def table(self) -> Table:
        """A line per arm."""
        left = self.seconds_left()
        table = Table(title="starting" if left is None else f"{minutes(left)} left", title_justify="left")
        for column in ("arm", "runs", "running", "accuracy of the last rollouts (seeds)", "response tokens"):
            table.add_column(column)
        arms = list(dict.fromkeys(run.arm for run in self.runs))
        if len(arms) > MOST_ROWS:
            table.caption = f"{self.count()}; of {len(arms)} arms, those at work"
            going = {attempt.run.arm for attempt in self.running}
            arms = [arm for arm in arms if arm in going]
        for arm in arms:
            table.add_row(arm, *self.cells(arm))
        return table

    def cells(self, arm: str) -> tuple[str, str, str, str]:
        """An arm's line."""
        runs = [run for run in self.runs if run.arm == arm]
        going = [attempt for attempt in self.running if attempt.run.arm == arm]
        failed = sum(map(self.is_given_up, runs))
        count = f"{sum(run.name in self.settled for run in runs)}/{len(runs)}{f', {failed} failed' if failed else ''}"
        steps = ", ".join(f"seed {a.run.seed}: {steps_done(a)}/{a.run.config.run.steps}" for a in going)
        latest = [self.latest[run.name] for run in runs if run.name in self.latest]
        accuracies = " ".join(f"{metrics['rollout/accuracy']:.2f}" for metrics in latest)
        lengths = " ".join(f"{metrics['rollout/response_tokens_mean']:.0f}" for metrics in latest)
        return count, steps, accuracies, lengths

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


def steps_done(attempt: Attempt) -> int:
    """The same of a running process."""
    return steps_in(latest_metrics(attempt.run.folder))
