import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.algorithm.metrics import Metrics
from harness.console import command
from tests.faults.amount import amount, spread
from tests.faults.forked import Ended, forked, going_on
from tests.faults.verdict import SURVIVED, Truth, lost, struck, verdict
from tests.faults.writes import signalled_at
from tests.harness.runs import read_json

pytestmark = pytest.mark.train
STOPPING = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


def after_step(step: int, act: Callable[[], object]) -> Callable[[Metrics], None]:
    """Acts as the step of that number ends."""

    def on_step(metrics: Metrics) -> None:
        if metrics["step"] == step:
            act()

    return on_step


def send(*signals: signal.Signals) -> Callable[[], None]:
    """Sends them to this process."""

    def act() -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    return act


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step_*"))


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("is_sent_twice", [False, True])
def test_a_signal_stops_a_run_to_be_resumed(
    fipo: Truth, tmp_path: Path, number: signal.Signals, is_sent_twice: bool
) -> None:
    """One at the next step boundary with a checkpoint, a second one at once without."""
    run, log = tmp_path / "run", tmp_path / "log"
    stopped = forked(going_on(fipo.config, run, after_step(1, send(*[number] * (1 + is_sent_twice)))), log)
    reason = "interrupted within a step" if is_sent_twice else f"stopped by {number.name} after 2 of 4 steps"
    message = f"{reason}; resume with: {command('harness', 'resume', run)}"
    assert stopped == Ended(75, f"{message}\n")
    assert read_json(run / "status.json") == {
        "state": "preempted",
        "reason_code": "stopped",
        "reason": reason if is_sent_twice else message,
        "exit_code": 75,
        "steps_done": 2,
    }
    assert checkpoints(run) == ["step_000001", "step_000002"][: 1 if is_sent_twice else 2]
    assert verdict(run, fipo.run, forked(going_on(fipo.config, run), log)) == SURVIVED


@pytest.mark.parametrize("signals", [STOPPING[:1], [signal.SIGUSR1, signal.SIGINT]], ids=["one", "two"])
def test_a_signal_at_any_write_costs_nothing(fipo: Truth, tmp_path: Path, signals: list[signal.Signals]) -> None:
    endings = {}
    for number in spread(len(fipo.writes), short=3)[:: amount(short=1, thorough=4)]:
        stopped, ending = struck(fipo, tmp_path / str(number), signalled_at(number, *signals))
        # after the last step one signal does nothing; once the lock is let go, it does what it does to any program
        is_known = stopped.code in (0, 75, -signals[0]) and stopped.printed.count("\n") <= 1
        endings[f"{number} {fipo.writes[number]}"] = ending if is_known else f"{stopped}"
    assert lost(endings) == {}
