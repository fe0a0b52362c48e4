"""What all tests share: SIGINT as in a terminal, no MLflow, and the table of faults that processes add up to."""

import os
import signal
from typing import Any

import pytest

from tests.faults.amount import THOROUGH
from tests.faults.verdict import TOLL, Toll

# A shell has its background jobs ignore SIGINT, and tests of Ctrl-C could not send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["MLFLOW_TRACKING_URI"] = "none"  # but for the tests of tracking: a logger beside each study takes seconds


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that started this one, if any."""
    if TOLL in session.config.stash and hasattr(session.config, "workeroutput"):
        ended = session.config.stash[TOLL].ended
        session.config.workeroutput["toll"] = [[kind, ending, count] for (kind, ending), count in ended.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Count in what another process tells."""
    toll = node.config.stash.setdefault(TOLL, Toll())
    for kind, ending, count in getattr(node, "workeroutput", {}).get("toll", []):
        toll.ended[kind, ending] += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of what was survived."""
    if TOLL in config.stash and config.stash[TOLL].ended:
        terminalreporter.section(f"faults, {'all' if THOROUGH else 'a few'} of them")
        terminalreporter.write_line("\n".join(config.stash[TOLL].table()))
