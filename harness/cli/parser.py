"""Building blocks of all commands: a flag per setting and the config that they give, one line per error, exit codes."""

import argparse
import difflib
import importlib.util
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from harness.backends.phases import exit_at_once, is_a_rank
from harness.backends.rendezvous import STORE
from harness.config.base import spelled
from harness.config.names import ALSO, ANSWERS, OURS
from harness.config.resolve import resolve, settings_in
from harness.config.schema import Config, sections
from harness.console import output
from harness.errors import DiskFull, HarnessError, OutOfMemory, Stopped, UsageError, is_out_of_memory, note_reason
from harness.files import is_disk_full

ROOT = Path(__file__).resolve().parents[2]
Subparsers = Any  # argparse does not name this type
Start = Callable[[argparse.Namespace], None]


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that raises one-line errors without usage text. Create it with allow_abbrev=False."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what a command does not know is the command's own error, with its own --help."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of exiting; for an unknown word, say what it is here or which one is similar."""
        unknown = re.match(r"unrecognized arguments: (\S+)|.*invalid choice: '(\S+)' \(choose from (.*)\)", message)
        word, choice, choices = unknown.groups("") if unknown else ("", "", "")
        known = re.findall(r"[\w-]+", choices) or list(self._option_string_actions)
        near = difflib.get_close_matches(word or choice, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
        raise UsageError(f"{message}: {ANSWERS.get(word.removeprefix('--').partition('=')[0], hint)}")


def add_command(subparsers: Subparsers, name: str, purpose: str, start: Start) -> OneLineParser:
    parser: OneLineParser = subparsers.add_parser(name, allow_abbrev=False, help=purpose)
    parser.set_defaults(start=start)
    return parser


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting of the config, grouped by section."""
    for section, model in sections().items():
        group = parser.add_argument_group(section, (model.__doc__ or "").splitlines()[0])
        for name, field in model.model_fields.items():
            text = f"{field.description} (default: {spelled(field.default)})".replace("%", "%%")
            bare: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
            group.add_argument(
                f"--{name}", metavar=kind(field.annotation), default=argparse.SUPPRESS, help=text, **bare
            )
            for other in ALSO.get(name, ()):
                group.add_argument(f"--{other}", dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **bare)
    also = ", ".join(f"--{theirs} for --{ours}" for theirs, ours in OURS.items())
    parser.epilog = f"Names of TRL, ms-swift and verl are understood: {also}."


def kind(annotation: Any) -> str:
    """The values that a flag accepts, for --help: its choices or its type, and `none` if it is optional."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return "|".join(map(str, parts))
    if get_origin(annotation) in (UnionType, Union):
        return "|".join("none" if part is NoneType else kind(part) for part in parts)
    if get_origin(annotation) is Annotated:
        return kind(parts[0])
    return {bool: "true|false", str: "text", int: "int", float: "float"}[annotation]


def add_with_settings(subparsers: Subparsers, name: str, purpose: str, start: Start) -> OneLineParser:
    """Add a command that takes every setting: from a preset, from a file, or from its own flag."""
    parser = add_command(subparsers, name, purpose, start)
    parser.usage = "%(prog)s [--setting value ...]"
    parser.add_argument("--preset", metavar="NAME", help="settings shipped in harness/presets, or a TOML file")
    parser.add_argument("--config", metavar="FILE", help="settings from TOML, or from a run's config.json")
    add_setting_flags(parser)
    return parser


def resolved(options: argparse.Namespace) -> Config:
    """The validated config. Prints a note for each flag that has no effect. Raises UsageError for invalid settings."""
    flags = settings_in(vars(options))
    config = resolve(flags, options.preset, options.config)
    warn_unused_flags(flags, config)
    return config


def default_folder(name: str) -> Path:
    return Path(f"runs/{datetime.now():%Y%m%d-%H%M%S}-{name}")


def warn_unused_flags(flags: dict[str, str | None], config: Config) -> None:
    """Print a note for each flag that has less effect than the user may expect."""
    if STORE in os.environ:  # this is a rank, and its launcher has printed the notes
        return
    loss = config.loss
    if loss.loss_type == "fipo" and loss.delta is None:
        print(
            "note: --delta none means neither dual clip nor Future-KL filter, which the FIPO paper found unstable; "
            "its recipes have --delta 10"
        )
    if loss.loss_type in ("dapo", "fipo") and loss.epsilon_high == loss.epsilon:
        print(f"note: --epsilon_high {loss.epsilon_high:g} is the published page's default; DAPO and FIPO have 0.28")
    if config.on_policy_note:
        print(f"note: {config.on_policy_note}")
    for flag in flags:
        if flag in loss.unused:
            print(f"note: --{flag} has no effect with --loss_type {loss.loss_type}")


def check_checkout(*packages: str) -> None:
    """Raise UsageError if a package would be imported from elsewhere: the names are generic and easily shadowed."""
    for package in packages:
        found = importlib.util.find_spec(package)
        origin = found.origin if found else None
        if origin is None or ROOT not in Path(origin).resolve().parents:
            raise UsageError(
                f"package {package!r}: expected the one beside harness, {ROOT / package}, got {origin}: "
                "run it elsewhere, or remove the other one from PYTHONPATH and the environment"
            )


def complain(text: str) -> None:
    """Print a line to stderr, below whatever stands on stdout."""
    output.clear()
    print(text, file=sys.stderr)


def run_command(main: Callable[[list[str]], None], arguments: list[str], needs: Sequence[str] = ()) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong use, 75 stopped by a signal.

    Expected errors are printed on one line; unexpected ones rise. One of several ranks exits here after any error. The
    packages in `needs` must lie beside this one.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of characters that the terminal cannot encode (LANG=C)
    try:
        check_checkout(*needs)
        main(arguments)
    except (Exception, KeyboardInterrupt) as error:
        code = explained(error)
        if is_a_rank():  # before the error, which keeps the run's objects alive, is dropped
            if code is None:
                traceback.print_exception(error)
            exit_at_once(code or 1)
        if code is None:
            raise
        return code
    return 0


def explained(error: BaseException) -> int | None:
    """Note an error's reason and print it on one line. Returns its exit code, or None if the error is unexpected."""
    if isinstance(error, HarnessError):
        note_reason(error.code)
        if text := " ".join(str(error).split("\n")):
            complain(f"error: {text}" if error.exit_code != Stopped.exit_code else text)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        note_reason(Stopped.code)
        complain("interrupted")
        return Stopped.exit_code
    if isinstance(error, BrokenPipeError):
        # nobody reads our output any more: keep the interpreter from failing again when it flushes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif is_disk_full(error):
        note_reason(DiskFull.code)
        complain(f"error: the disk is full, free some space: {error}")
    elif isinstance(error, OSError) and error.filename:
        complain(f"error: {error}")
    else:
        note_reason(OutOfMemory.code if is_out_of_memory(error) else HarnessError.code)
        return None
    return 1
