"""The command line of a run: one flag per setting, one line per error, an exit code that means something."""

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from harness.cli.checkout import check_checkout
from harness.config.base import spelled
from harness.config.schema import section_of, sections
from harness.errors import HarnessError, UsageError
from harness.files import is_disk_full

Subparsers = Any  # argparse does not name this type


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before an error. Make it with allow_abbrev=False."""

    def error(self, message: str) -> NoReturn:
        """Raise in place of printing and exiting, with the nearest setting's name for one that does not exist."""
        unknown = re.match(r"unrecognized arguments: --(\w+)", message)
        near = difflib.get_close_matches(unknown[1], section_of(), n=1) if unknown else []
        # a setting's own name: one that this command does not take
        hint = f"did you mean --{near[0]}?" if unknown and near not in ([], [unknown[1]]) else f"see {self.prog} --help"
        raise UsageError(f"{message}: {hint}")


def add_setting_flags(parser: argparse.ArgumentParser, only: str | None = None) -> None:
    """A flag for every leaf of the config (or of one section), under its section's heading, with its default."""
    for section, model in sections().items():
        if only not in (None, section):
            continue
        group = parser.add_argument_group(section, (model.__doc__ or "").splitlines()[0])
        for name, field in model.model_fields.items():
            text = f"{field.description} (default: {spelled(field.default)})".replace("%", "%%")
            group.add_argument(f"--{name}", metavar=kind(field.annotation), default=argparse.SUPPRESS, help=text)


def kind(annotation: Any) -> str:
    """What a flag takes: its choices, or the type of its value; `none` too where it may be absent."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return "|".join(map(str, parts))
    if get_origin(annotation) in (UnionType, Union):
        return "|".join("none" if part is NoneType else kind(part) for part in parts)
    if get_origin(annotation) is Annotated:
        return kind(parts[0])
    return {bool: "true|false", str: "text", int: "int", float: "float"}[annotation]


def escape_unprintable() -> None:
    """Let no character end a command on a terminal that does not know it (LANG=C, PYTHONIOENCODING=ascii)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_command(main: Callable[[list[str]], None], arguments: list[str], needs: Sequence[str] = ()) -> int:
    """The exit code of a command: 0 done, 1 failed, 2 wrong use, 75 stopped by a signal. One line for each error.

    `needs` are packages that must be this checkout's own. What a terminal cannot show is shown as its code point.
    """
    escape_unprintable()
    try:
        check_checkout(*needs)
        main(arguments)
    except HarnessError as error:
        text = " ".join(str(error).split("\n"))
        if text:
            print(f"error: {text}" if error.exit_code != 75 else text, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 75
    except BrokenPipeError:
        # whoever read our output has gone; keep the interpreter from failing again as it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if is_disk_full(error):
            print(f"error: the disk is full, make room: {error}", file=sys.stderr)
        elif isinstance(error, OSError) and error.filename:
            print(f"error: {error}", file=sys.stderr)
        else:
            raise
        return 1
    return 0
