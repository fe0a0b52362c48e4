"""Commands run in this process."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from harness.cli.parser import run_command


class Outcome(NamedTuple):
    """What a command left."""

    exit_code: int
    printed: list[str]
    errors: list[str]


def outcome(
    main: Callable[[list[str]], None], arguments: Sequence[object], capsys: pytest.CaptureFixture[str]
) -> Outcome:
    """Exit code, and the lines on stdout and stderr."""
    capsys.readouterr()
    code = run_command(lambda given: main(list(given)), [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Outcome(code, captured.out.splitlines(), captured.err.splitlines())
