"""The command line of a run: one flag per setting, one line per error, an exit code that means something."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from harness.checkout import check_checkout
from harness.config import sections
from harness.errors import HarnessError, UsageError


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before an error. Make it with allow_abbrev=False."""

    def error(self, message: str) -> NoReturn:
        """Raise in place of printing and exiting."""
        raise UsageError(f"{message}: see {self.prog} --help")


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every leaf of the config, under its section's heading, with its default in the help."""
    for section, model in sections().items():
        group = parser.add_argument_group(section, (model.__doc__ or "").splitlines()[0])
        for name, field in model.model_fields.items():
            text = f"{field.description} (default: {shown(field.default)})".replace("%", "%%")
            group.add_argument(f"--{name}", metavar="X", default=argparse.SUPPRESS, help=text)


def shown(value: object) -> str:
    """A value as a flag spells it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def parsed(value: str) -> str | None:
    """`none` and `None` are the absence of a value; everything else is the config's to read."""
    return None if value in ("none", "None") else value


def run_command(main: Callable[[list[str]], None], arguments: list[str], needs: Sequence[str] = ()) -> int:
    """The exit code of a command: 0 done, 1 failed, 2 wrong use, 75 stopped by a signal. One line for each error.

    `needs` are packages that must be this checkout's own.
    """
    try:
        check_checkout(*needs)
        main(arguments)
    except HarnessError as error:
        print(f"error: {error}" if error.exit_code != 75 else str(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 75
    except BrokenPipeError:
        # whoever read our output has gone; keep the interpreter from failing again as it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
