"""The command `show`."""

import argparse

from harness.command import Subparsers
from harness.commands.settings import add_with_settings, resolved
from harness.show import loss_text


def add(subparsers: Subparsers) -> None:
    """The command `show`."""
    purpose = "print what the resolved loss does, and what other implementations do differently"
    add_with_settings(subparsers, "show", purpose, run)


def run(options: argparse.Namespace) -> None:
    """Print the resolved loss."""
    print(loss_text(resolved(options)))
