"""The flags that set the config: defining them, collecting those that were given, and resolving them."""

import argparse
import os
from datetime import datetime
from pathlib import Path

from harness.backends.rendezvous import STORE
from harness.cli.parser import OneLineParser, Start, Subparsers, add_command, add_setting_flags
from harness.config.resolve import resolve, settings_in
from harness.config.schema import Config, is_anothers


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
    flags = given_flags(options)
    config = resolve(flags, options.preset, options.config)
    warn_unused_flags(flags, config)
    return config


def default_folder(name: str) -> Path:
    return Path(f"runs/{datetime.now():%Y%m%d-%H%M%S}-{name}")


def given_flags(options: argparse.Namespace) -> dict[str, str | None]:
    return settings_in(vars(options))


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
    for flag in flags:
        if is_anothers(flag, loss.loss_type):
            print(f"note: --{flag} has no effect with --loss_type {loss.loss_type}")
