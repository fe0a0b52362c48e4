import os
import subprocess
import sys

import pytest

from harness import console as lines
from harness.console import be_silent, say


def test_a_line_that_nobody_reads_any_more_stops_nothing() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(writer, 1)
        try:
            say("one")
            say("two")
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writer)
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0


def test_a_line_is_printed_at_once_whatever_rank_the_environment_names(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    say("one")
    assert capfd.readouterr().out == "one\n"


def test_a_terminal_that_knows_ascii_alone_ends_no_command() -> None:
    shown = "from harness import run_command; print(run_command(lambda _: print('1 \u00b1 2'), []))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", shown], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 \\xb1 2", "0"]


def test_a_process_that_is_to_be_silent_prints_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_is_silent", False)
    be_silent()
    say("one")
    assert capfd.readouterr().out == ""
