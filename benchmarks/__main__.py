"""python -m benchmarks [--save]: training steps beside TRL's and the hardware's limit."""

import sys

from benchmarks.page import LOAD, ROOT, page, save, tables
from benchmarks.step.report import rows
from harness.backends.torch_setup import keep_freed_memory
from harness.cli.parser import OneLineParser, run_command


def main(arguments: list[str]) -> None:
    """Measure, and print the tables."""
    parser = OneLineParser(prog="python -m benchmarks", allow_abbrev=False, description="Speed of training steps.")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results and docs/speed.md")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # as a run does: else page faults of fresh memory are most of what is timed
    print(f"load of the machine before the start: {LOAD:.1f}" + (": the figures will suffer" if LOAD > 0.5 else ""))
    found = list(rows())
    print(f"\n{tables(found)}\n", flush=True)
    if options.save:
        record = save(found)
        (ROOT / "docs" / "speed.md").write_text(page(record), encoding="utf-8")
        print(f"saved: docs/speed.md, benchmarks/results/{record.name}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
