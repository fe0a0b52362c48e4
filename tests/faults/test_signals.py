import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.algorithm.metrics import Metrics
from harness.run.environment import ROOT
from tests.faults.amount import amount, spread
from tests.faults.conftest import SETTINGS
from tests.faults.forked import Ended, ended, forked, going_on, start
from tests.faults.verdict import SURVIVED, Truth, lost, struck, verdict
from tests.faults.writes import signalled_at
from tests.harness.runs import read_json
from tests.harness.tiny import SCAFFOLD, small_flags

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
    message = f"stopped by {number.name} after 2 of 4 steps; resume with: python -m harness resume {run}"
    assert stopped == Ended(75, "interrupted\n" if is_sent_twice else f"{message}\n")
    assert read_json(run / "status.json") == {
        "state": "preempted",
        "reason_code": "stopped",
        "reason": "interrupted within a step" if is_sent_twice else message,
        "exit_code": 75,
        "steps_done": 2,
    }
    assert checkpoints(run) == ["step_000001", "step_000002"][: 1 if is_sent_twice else 2]
    assert verdict(run, fipo.run, forked(going_on(fipo.config, run), log)) == SURVIVED


@pytest.mark.parametrize("signals", [STOPPING[:1], [signal.SIGUSR1, signal.SIGINT]], ids=["one", "two"])
def test_a_signal_at_any_write_costs_nothing(fipo: Truth, tmp_path: Path, signals: list[signal.Signals]) -> None:
    endings = {}
    for number in spread(len(fipo.writes), short=5)[:: amount(short=1, thorough=4)]:
        stopped, ending = struck(fipo, tmp_path / str(number), signalled_at(number, *signals))
        # after the last step one signal does nothing; once the lock is let go, it does what it does to any program
        is_known = stopped.code in (0, 75, -signals[0]) and stopped.printed.count("\n") <= 1
        endings[f"{number} {fipo.writes[number]}"] = ending if is_known else f"{stopped}"
    assert lost(endings) == {}


@pytest.mark.parametrize("number", STOPPING[: amount(short=1, thorough=3)])
def test_a_signal_stops_the_command(tmp_path: Path, number: signal.Signals) -> None:
    flags = small_flags("tiny", **SCAFFOLD | SETTINGS | {"loss_type": "fipo", "beta": 0.05, "steps": 400})
    command = [sys.executable, "-m", "harness", "train", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("step 1/"):  # many more are to come: it cannot have ended before the signal is there
                process.send_signal(number)
    run = tmp_path / "run"
    assert process.returncode == 75
    assert read_json(run / "status.json")["state"] == "preempted"
    done = read_json(run / "status.json")["steps_done"]
    assert checkpoints(run)[-1] == f"step_{done:06d}"  # where it goes on


@pytest.mark.parametrize("name", ["run", "a link to the run"])
def test_a_second_process_is_refused_while_the_first_one_lives(fipo: Truth, tmp_path: Path, name: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    (tmp_path / "a link to the run").symlink_to("run")
    pid = start(going_on(fipo.config, run, after_step(1, send(signal.SIGSTOP))), log)
    os.waitpid(pid, os.WUNTRACED)  # it stands still
    try:
        second = forked(going_on(fipo.config, tmp_path / name), tmp_path / "second")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (second.code, second.printed.count("\n")) == (2, 1)
    assert second.printed.startswith(f"error: {tmp_path / name}: process {pid} on ")
    assert verdict(run, fipo.run, ended(pid, log)) == SURVIVED
