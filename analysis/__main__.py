"""The command line: `python -m analysis report | figures | verify | claims | import`; each imports what it needs."""

import argparse
import difflib
import io
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from analysis.errors import RecordsError

WRONG_USE = 2


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage that --help shows."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what a command does not know is the command's own error, with its own --help."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0], self._option_string_actions, n=1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + f": did you mean {near[0]}?" * bool(near))
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m analysis") -> int:
    """Run one command: 0 when done, 2 with one line on stderr when something given is wrong."""
    from analysis.cli import add_commands

    parser = _OneLineParser(prog=prog, description="Run and study folders -> figures, tables and a report.")
    add_commands(parser)
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # no character may end a command on a terminal that does not know it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(given.start(given))
    except RecordsError as error:
        said = str(error)
    except OSError as error:
        said = f"expected to read or write {error.filename or 'all of it'}, got: {error.strerror}: mend that"
    print(f"error: {said}", file=sys.stderr)
    return WRONG_USE


if __name__ == "__main__":
    sys.exit(main())
