"""python -m benchmarks [--device cuda] [--save]: training steps beside TRL's and the hardware's limit."""

import sys
from collections.abc import Callable, Iterator

import torch

from benchmarks import gpu
from benchmarks.frame import LOAD, ROOT, Row, save, table
from benchmarks.page import page
from benchmarks.step import report as step
from harness.backends.torch_setup import keep_freed_memory
from harness.cli.parser import OneLineParser, run_command
from harness.errors import UsageError

PARTS: dict[str, tuple[str, Callable[[], Iterator[Row]]]] = {"cpu": ("step", step.rows), "cuda": ("gpu", gpu.rows)}


def main(arguments: list[str]) -> None:
    """Measure what the device has, and print its table."""
    parser = OneLineParser(
        prog="python -m benchmarks", allow_abbrev=False, description="Speed and memory of training steps."
    )
    parser.add_argument("--device", choices=list(PARTS), default="cpu")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results and docs/speed.md")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: expected a CUDA device, found none: use --device cpu")
    keep_freed_memory()  # as a run does: else page faults of fresh memory are most of what is timed
    print(f"load of the machine before the start: {LOAD:.1f}" + (": the figures will suffer" if LOAD > 0.5 else ""))
    part, rows = PARTS[options.device]
    found = {part: list(rows())}
    print(f"\n{table(found[part])}\n", flush=True)
    if options.save:
        record = save(found, options.device)
        (ROOT / "docs" / "speed.md").write_text(page(record), encoding="utf-8")
        print(f"saved: docs/speed.md, benchmarks/results/{record.name}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
