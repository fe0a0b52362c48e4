import io
import os
import subprocess
import sys

import pytest

from harness.console import Output, in_words, say


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


def test_a_process_that_is_to_be_silent_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    output = Output(clock=lambda: 0.0)
    output.is_silent = True
    output.say("one")
    output.doing("two")
    assert capfd.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "printed"),
    [
        (io.StringIO(), "begun\nstep 1/2: update 3, 3 min left\ndone\n"),
        (Terminal(), "begun\nstep 1/2: update 2, 4 min left\r\x1b[Kstep 1/2: update 3, 3 min left\r\x1b[Kdone\n"),
    ],
)
def test_what_is_going_on_moves_on_a_terminal_and_is_a_line_a_minute_elsewhere(
    stream: io.StringIO, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    now = [0.0]
    output = Output(clock=lambda: now[0])
    output.say("begun")
    output.part = "step 1/2"
    output.expect(241)
    for number, seconds in ((1, 0.1), (2, 1.0), (3, 61.0)):
        now[0] = seconds
        output.doing(f"update {number}")
    output.say("done")
    assert stream.getvalue() == printed


@pytest.mark.parametrize(("seconds", "words"), [(-3, "0 s"), (95.4, "95 s"), (720, "12 min"), (12600, "3.5 h")])
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
