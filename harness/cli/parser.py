"""The command line: a flag per setting, one line per error, and exit codes that say how a command ended."""

import argparse
import difflib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from harness.config.base import spelled
from harness.config.schema import section_of, sections
from harness.errors import DiskFull, HarnessError, OutOfMemory, Stopped, UsageError, is_out_of_memory, note_reason
from harness.files import is_disk_full

ROOT = Path(__file__).resolve().parents[2]
Subparsers = Any  # argparse does not name this type


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before an error. Make it with allow_abbrev=False."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of exiting, with the nearest setting's name for an unknown flag."""
        unknown = re.match(r"unrecognized arguments: --(\w+)", message)
        near = difflib.get_close_matches(unknown[1], section_of(), n=1) if unknown else []
        # a setting's own name: one that this command does not take
        hint = f"did you mean --{near[0]}?" if unknown and near not in ([], [unknown[1]]) else f"see {self.prog} --help"
        raise UsageError(f"{message}: {hint}")


def add_setting_flags(parser: argparse.ArgumentParser, only: str | None = None) -> None:
    """Add a flag per setting of the config (or of one section), with its default, under its section's heading."""
    for section, model in sections().items():
        if only not in (None, section):
            continue
        group = parser.add_argument_group(section, (model.__doc__ or "").splitlines()[0])
        for name, field in model.model_fields.items():
            text = f"{field.description} (default: {spelled(field.default)})".replace("%", "%%")
            group.add_argument(f"--{name}", metavar=kind(field.annotation), default=argparse.SUPPRESS, help=text)


def kind(annotation: Any) -> str:
    """The values that a flag takes: its choices or its type, and `none` where it may be absent."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return "|".join(map(str, parts))
    if get_origin(annotation) in (UnionType, Union):
        return "|".join("none" if part is NoneType else kind(part) for part in parts)
    if get_origin(annotation) is Annotated:
        return kind(parts[0])
    return {bool: "true|false", str: "text", int: "int", float: "float"}[annotation]


def check_checkout(*packages: str) -> None:
    """Raise UsageError if a package would be imported from elsewhere: their names are generic and easily shadowed."""
    for package in packages:
        found = importlib.util.find_spec(package)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or ROOT not in origin.parents:
            raise UsageError(
                f"package {package!r}: expected this checkout's, {ROOT / package}, got {origin}: "
                "run from the checkout, or remove what shadows it from PYTHONPATH and the environment"
            )


def escape_unprintable() -> None:
    """Keep characters that the terminal's encoding lacks (LANG=C) from ending a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_command(main: Callable[[list[str]], None], arguments: list[str], needs: Sequence[str] = ()) -> int:
    """The exit code of a command: 0 done, 1 failed, 2 wrong use, 75 stopped by a signal. One line for each error.

    `needs` are packages that must be this checkout's own.
    """
    escape_unprintable()
    try:
        check_checkout(*needs)
        main(arguments)
    except HarnessError as error:
        note_reason(error.code)
        text = " ".join(str(error).split("\n"))
        if text:
            print(f"error: {text}" if error.exit_code != 75 else text, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        note_reason(Stopped.code)
        print("interrupted", file=sys.stderr)
        return 75
    except BrokenPipeError:
        # the reader of our output is gone: keep the interpreter from failing again when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if is_disk_full(error):
            note_reason(DiskFull.code)
            print(f"error: the disk is full, make room: {error}", file=sys.stderr)
        elif isinstance(error, OSError) and error.filename:
            print(f"error: {error}", file=sys.stderr)
        else:
            note_reason(OutOfMemory.code if is_out_of_memory(error) else HarnessError.code)
            raise
        return 1
    return 0
