"""python -m sweeps compare"""

import sys

from harness import OneLineParser, add_setting_flags, run_command
from sweeps.compare import compare_command


def main(arguments: list[str]) -> None:
    """Hand the arguments to the command they name."""
    parser = OneLineParser(allow_abbrev=False, prog="python -m sweeps", description="Many training runs.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="compare")
    compare = subparsers.add_parser(
        "compare",
        allow_abbrev=False,
        usage="%(prog)s [--setting value ...]",
        help="train arms x seeds under one family's rules",
    )
    compare.add_argument("--losses", default="grpo,dapo,fipo", metavar="A,B", help="arms (default: grpo,dapo,fipo)")
    compare.add_argument(
        "--controls", default="", metavar="C,D:N", help="planted controls, each with its number of seeds if not --seeds"
    )
    compare.add_argument("--seeds", type=int, default=5, metavar="N", help="training seeds per arm (default: 5)")
    compare.add_argument("--first_seed", type=int, default=0, metavar="N", help="the lowest seed (default: 0)")
    compare.add_argument(
        "--family", default="controlled", metavar="F", help="controlled, recipe, or a TOML file (default: controlled)"
    )
    compare.add_argument("--preset", default="demo", metavar="NAME", help="what all arms share (default: demo)")
    compare.add_argument("--slots", type=int, default=0, metavar="N", help="runs at a time (default: one per core)")
    compare.add_argument("--study", metavar="DIR", help="study folder (default: runs/compare-<time>)")
    add_setting_flags(compare)
    compare.set_defaults(start=compare_command)
    options = parser.parse_args(arguments)
    options.start(options)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness", "sweeps")))
