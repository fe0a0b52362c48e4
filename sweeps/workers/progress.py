"""What a person sees while the runs of a comparison go on: a line per event, and how far all are."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from harness import doing, in_words, say
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, early_end, is_data, last_words, latest_metrics

ATTEMPTS = 3  # processes at most that one call starts for a run that is killed


class Progress:
    """The state of a comparison's runs."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.runs, self.started = runs, time.monotonic()
        self.latest = {run.name: latest_metrics(run.folder) for run in runs}
        self.before = sum(map(steps_in, self.latest.values()))  # steps that were recorded before this start
        self.settled = {run.name for run in runs if is_data(run)}  # runs that have an outcome
        self.died = dict[str, int]()  # by run: how many of its processes were killed
        self.failed = set[str]()  # runs that are not tried again by this start

    def update(self, running: Iterable[Attempt], ended: Sequence[Attempt]) -> list[PlannedRun]:
        """Take in what happened and show it; the runs that are to be started again, since a signal ended them."""
        running, again = list(running), []
        for attempt in (*running, *ended):
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
            words = ending.reason if ending.kind == "died" else last_words(run) or ending.reason
            say(f"{run.name}: {word}: {words} (log: {run.log})" if word else self.line(run))
        doing("; ".join([self.text(), *map(steps_of, running)]))
        return again

    def seconds_left(self) -> float | None:
        """At the pace of this start; None before its first step."""
        done = sum(map(steps_in, self.latest.values())) - self.before
        open_runs = [run for run in self.runs if run.name not in self.settled | self.failed]
        left = sum(max(0, run.config.run.steps - steps_in(self.latest[run.name])) for run in open_runs)
        return (time.monotonic() - self.started) / done * left if done > 0 else None

    def text(self) -> str:
        """How many runs have an outcome or failed, and the time left."""
        left = self.seconds_left()
        parts = [self.count(), *([f"{len(self.failed)} failed"] if self.failed else [])]
        return ", ".join([*parts, "starting" if left is None else f"{in_words(left)} left"])

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
