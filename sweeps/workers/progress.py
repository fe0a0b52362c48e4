"""What a person sees while runs go on: a live line per arm on a terminal, a plain line per event elsewhere."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness import Difference
from sweeps.plan import minutes
from sweeps.study.folder import PlannedRun
from sweeps.workers.endings import early_end
from sweeps.workers.slots import Attempt, latest_metrics

PLAIN_EVERY_S = 30.0
MOST_COLUMNS = 6  # arms side by side
MOST_ROWS = 20  # arms below each other


def make_console() -> Console:
    """stdout; wide enough for a table where it is no terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=140)


def differences_table(differences: Sequence[Difference]) -> Table:
    """What differs between the arms, with what the family does not admit marked."""
    if differences and len(differences[0].values) > MOST_COLUMNS:
        return differences_by_arm(differences)
    table = Table(title="what differs between the arms", title_justify="left")
    table.add_column("setting")
    for name in differences[0].values if differences else []:
        table.add_column(name)
    table.add_column("")
    for difference in differences:
        cells = ["-" if value is None else str(value) for value in difference.values.values()]
        table.add_row(difference.field, *cells, "" if difference.allowed else "CONFOUND")
    return table


def differences_by_arm(differences: Sequence[Difference]) -> Table:
    """The same of many arms: for each the settings in which it differs from the first."""
    first, *others = differences[0].values
    table = Table(title="what differs between the arms", title_justify="left")
    table.add_column("arm")
    table.add_column(f"differs from {first} in")
    for name in others:
        words = [
            f"{one.field} {'-' if one.values[name] is None else one.values[name]}{'' if one.allowed else ' CONFOUND'}"
            for one in differences
            if one.values[name] != one.values[first]
        ]
        table.add_row(name, ", ".join(words))
    return table


def blocks_table(design: Mapping[str, Any]) -> Table:
    """The blocks of a study: what each asks, of which arms, over what."""
    table = Table(title=str(design["title"]), title_justify="left")
    for column in ("block", "question", "arms", "varied", "seeds"):
        table.add_column(column)
    for name, block in design["blocks"].items():
        levels = list(dict.fromkeys(str(cell["level"]) for cell in block["cells"]))
        varied = f"{block['varied']}: {', '.join(levels)}" if block["varied"] else ""
        arms = ", ".join(dict.fromkeys(cell["arm"] for cell in block["cells"]))
        table.add_row(name, block["question"], arms, varied, str(block["seeds"]))
    return table


@dataclass
class Progress:
    """The state of a comparison, and its display."""

    runs: Sequence[PlannedRun]
    console: Console
    ended: list[Attempt] = field(default_factory=list)
    running: list[Attempt] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    already_done: int = 0  # steps of runs that were finished before
    last_plain: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.already_done = sum(run.config.run.steps for run in self.runs if run.state() == "finished")

    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first step."""
        total = sum(run.config.run.steps for run in self.runs)
        done = sum(run.config.run.steps for run in self.runs if run.state() == "finished")
        done += sum(attempt.run.config.run.steps for attempt in self.ended if attempt.failure)
        done += sum(steps_done(attempt) for attempt in self.running if attempt.run.state() != "finished")
        fresh = done - self.already_done
        return (time.monotonic() - self.started) / fresh * (total - done) if fresh > 0 else None

    def table(self) -> Table:
        """A line per arm."""
        left = self.seconds_left()
        title = f"{minutes(left)} left" if left is not None else "starting"
        table = Table(title=title, title_justify="left")
        for column in ("arm", "runs", "running", "accuracy of the last rollouts (seeds)", "response tokens"):
            table.add_column(column)
        arms = list(dict.fromkeys(run.arm for run in self.runs))
        if len(arms) > MOST_ROWS:
            done = sum(run.state() == "finished" for run in self.runs)
            table.caption = f"{done} of {len(self.runs)} runs finished; of {len(arms)} arms, those at work"
            going = {attempt.run.arm for attempt in self.running}
            arms = [arm for arm in arms if arm in going]
        for arm in arms:
            table.add_row(arm, *self.cells(arm))
        return table

    def cells(self, arm: str) -> tuple[str, str, str, str]:
        """An arm's line."""
        runs = [run for run in self.runs if run.arm == arm]
        finished = sum(run.state() == "finished" for run in runs)
        failed = sum(attempt.run.arm == arm and attempt.failure is not None for attempt in self.ended)
        going = [attempt for attempt in self.running if attempt.run.arm == arm]
        steps = ", ".join(f"seed {a.run.seed}: {steps_done(a)}/{a.run.config.run.steps}" for a in going)
        latest = [metrics for run in runs if (metrics := latest_metrics(run.folder))]
        accuracies = " ".join(f"{metrics['rollout/accuracy']:.2f}" for metrics in latest)
        lengths = " ".join(f"{metrics['rollout/response_tokens_mean']:.0f}" for metrics in latest)
        return f"{finished}/{len(runs)}" + (f", {failed} failed" if failed else ""), steps, accuracies, lengths

    def update(self, live: Live | None, running: list[Attempt], ended: list[Attempt]) -> None:
        """Take in what happened and show it."""
        self.running = running
        self.ended += ended
        for attempt in ended:
            self.console.print(self.line(attempt))
        if live:
            live.update(self.table())
        elif time.monotonic() - self.last_plain > PLAIN_EVERY_S:
            self.last_plain = time.monotonic()
            self.console.print(self.table())

    def was_killed(self, run: PlannedRun) -> bool:
        """Whether the run's last process was ended by a signal and not by an error of its own."""
        codes = [attempt.process.poll() for attempt in self.ended if attempt.run is run]
        return bool(codes) and (codes[-1] or 0) < 0

    def line(self, attempt: Attempt) -> str:
        """What became of a run."""
        number = sum(run.state() == "finished" for run in self.runs)
        if end := early_end(attempt.run):
            return f"{attempt.run.name}: {end.upper()}: {attempt.failure} (log: {attempt.run.log})"
        if attempt.failure:
            return f"{attempt.run.name}: FAILED: {attempt.failure} (log: {attempt.run.log})"
        metrics = attempt.metrics or {}
        return (
            f"{attempt.run.name}: accuracy {metrics['rollout/accuracy']:.2f}, "
            f"{metrics['rollout/response_tokens_mean']:.0f} tokens, {metrics['time/elapsed_s']:.0f} s "
            f"({number} of {len(self.runs)} runs)"
        )


def steps_done(attempt: Attempt) -> int:
    """Training steps that a running process has reported."""
    metrics = attempt.metrics
    return int(metrics["step"]) + 1 if metrics else 0
