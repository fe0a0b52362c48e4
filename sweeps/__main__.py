"""python -m sweeps compare | ablate | study | fork | search | track | ui"""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness import OneLineParser, add_setting_flags, run_command
from sweeps.comparison import compare_command, fork_command, study_command
from sweeps.search.options import add_search_flags
from sweeps.study.claims import add_claims
from sweeps.tracking.log import add_track, add_tracking_uri
from sweeps.tracking.page import add_ui

USAGE = "%(prog)s [--setting value ...]"
CONTROLLED = {"losses": "grpo,dapo,fipo", "controls": "", "family": "controlled"}
LADDER = {
    "losses": "grpo,token_mean,clip_higher,dynamic_sampling,dapo,fipo,fipo_no_filter,fipo_two_sided,fipo_no_safety",
    "controls": "unit_weights,blame,random_reward:3",
    "family": "ladder",
}


def main(arguments: list[str], prog: str = "python -m sweeps") -> None:
    """Hand the arguments to the command they name."""
    parser = OneLineParser(allow_abbrev=False, prog=prog, description="Many training runs.")
    names = "compare | ablate | study | fork | search | track | ui"
    subparsers = parser.add_subparsers(dest="command", required=True, metavar=names)
    add_compare(subparsers, "compare", "train arms x seeds under one family's rules", CONTROLLED)
    add_compare(subparsers, "ablate", "GRPO turned into DAPO into FIPO, one switch at a time", LADDER)
    add_study(subparsers)
    add_fork(subparsers)
    search = subparsers.add_parser("search", allow_abbrev=False, usage=USAGE, help="search settings with Optuna")
    add_search_flags(search)
    search.set_defaults(start=search_command)
    add_track(subparsers)
    add_ui(subparsers)
    options = parser.parse_args(arguments, argparse.Namespace(arguments=arguments))
    options.start(options)


def search_command(options: argparse.Namespace) -> None:
    """Import Optuna only for the command that needs it."""
    from sweeps.search import command

    command.search_command(options)


def add_study(subparsers: Any) -> None:
    """A designed study of several blocks."""
    purpose = "a study of several blocks, by design"
    parser = subparsers.add_parser("study", allow_abbrev=False, usage=USAGE, help=purpose)
    words = "a name in sweeps/studies, or a TOML file (default: standard)"
    parser.add_argument("--design", default="standard", metavar="D", help=words)
    parser.add_argument("--preset", metavar="NAME", help="what all runs share (default: the design's)")
    words = "at most so many seeds in any block (default: the design's)"
    parser.add_argument("--seeds", type=int, metavar="N", help=words)
    add_shared(parser, "design", "study-<design>")
    parser.set_defaults(start=study_command)


def add_fork(subparsers: Any) -> None:
    """Arms that continue from the same states of recorded runs."""
    usage = "%(prog)s RUN [RUN ...] --at A,B --steps N [--setting value ...]"
    purpose = "continue recorded runs under each of several losses, from the same states"
    parser = subparsers.add_parser("fork", allow_abbrev=False, usage=usage, help=purpose)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--at", required=True, metavar="A,B", help="training steps done where the arms part")
    parser.add_argument("--losses", default="dapo,fipo", metavar="A,B", help="arms (default: dapo,fipo)")
    parser.add_argument("--controls", default="", metavar="C,D", help="planted controls (default: none)")
    parser.add_argument("--noise", type=int, default=2, metavar="K", help="sampling seeds per state (default: 2)")
    parser.add_argument("--family", default="controlled", metavar="F", help="as of compare (default: controlled)")
    add_shared(parser, "family", "fork-<time>")
    parser.set_defaults(start=fork_command)


def add_compare(subparsers: Any, name: str, purpose: str, defaults: dict[str, str]) -> None:
    """A comparison of arms over seeds, with its family's own arms as default."""
    parser = subparsers.add_parser(name, allow_abbrev=False, usage=USAGE, help=purpose)
    losses, controls, family = (f"(default: {value or 'none'})" for value in defaults.values())
    parser.add_argument("--losses", metavar="A,B", help=f"arms {losses}")
    words = f"planted controls, each with its number of seeds if not --seeds {controls}"
    parser.add_argument("--controls", metavar="C,D:N", help=words)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="training seeds per arm (default: 5)")
    parser.add_argument("--first_seed", type=int, default=0, metavar="N", help="the lowest seed (default: 0)")
    parser.add_argument("--family", metavar="F", help=f"a name in sweeps/families, or a TOML file {family}")
    parser.add_argument("--preset", default="demo", metavar="NAME", help="what all arms share (default: demo)")
    add_shared(parser, "family", f"{name}-<time>")
    parser.set_defaults(start=compare_command, **defaults)


def add_shared(parser: argparse.ArgumentParser, owner: str, folder: str) -> None:
    """The flags of every command that trains arms; `owner`: who says what is to be decided, where no flag does."""
    add_claims(parser, f"the {owner}'s")
    parser.add_argument("--slots", type=int, default=0, metavar="N", help="runs at a time (default: one per core)")
    parser.add_argument("--study", metavar="DIR", help=f"study folder (default: runs/{folder})")
    add_tracking_uri(parser)
    add_setting_flags(parser)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness", "sweeps")))
