"""`show`: explain a loss, or compare two presets."""

import argparse

from harness.cli.flags import add_with_settings, given_flags, resolved
from harness.cli.parser import Subparsers
from harness.config.differences import differences_text
from harness.config.explain import loss_text
from harness.config.resolve import resolve
from harness.errors import UsageError


def add(subparsers: Subparsers) -> None:
    purpose = "explain the loss that the settings give and how other implementations differ, or compare two presets"
    parser = add_with_settings(subparsers, "show", purpose, run)
    parser.usage = "%(prog)s [PRESET] [--against PRESET] [--setting value ...]"
    parser.add_argument("preset_name", metavar="PRESET", nargs="?", help="the same as --preset")
    parser.add_argument(
        "--against", metavar="PRESET", help="print the differences from this preset, with confounds marked"
    )


def run(options: argparse.Namespace) -> None:
    if options.preset_name is not None:
        if options.preset is not None:
            raise UsageError(f"show: expected one preset, got {options.preset_name!r} and --preset {options.preset}")
        options.preset = options.preset_name
    if options.against is None:
        print(loss_text(resolved(options)))
        return
    ours = resolve(given_flags(options), options.preset, options.config)
    name = options.preset or options.config
    name = "these settings" if name in (None, options.against) else name
    try:
        theirs = resolve({}, options.against)
    except UsageError as error:
        raise UsageError(f"--against {options.against}: {error}") from None
    for line in differences_text({name: ours, options.against: theirs}):
        print(line)
