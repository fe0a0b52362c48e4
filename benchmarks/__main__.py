"""python -m benchmarks [PART ...] [--device cuda] [--save]: figures beside peers and the hardware's limit."""

import sys
from collections.abc import Callable, Iterator

import torch

from benchmarks import gpu, logprobs, losses, sampling
from benchmarks.frame import LOAD, ROOT, Row, save, table
from benchmarks.page import page
from benchmarks.step import report as step
from harness.backends.torch_setup import keep_freed_memory
from harness.cli.parser import OneLineParser, run_command
from harness.errors import UsageError

THREADS = 2  # of parts that are not on one
Part = Callable[[], Iterator[Row]]
PARTS: dict[str, dict[str, Part]] = {
    "cpu": {
        "step": step.rows,
        "sampling": sampling.rows,
        "losses": lambda: losses.rows("cpu"),
        "logprobs": logprobs.rows,
    },
    "cuda": {"losses": lambda: losses.rows("cuda"), "gpu": gpu.rows},
}


def main(arguments: list[str]) -> None:
    """Run the parts named, or all of the device's, and print the table of each as it ends."""
    parser = OneLineParser(
        prog="python -m benchmarks", allow_abbrev=False, description="Speed and memory beside peers."
    )
    names = "; ".join(f"{', '.join(parts)} on {device}" for device, parts in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{names} (default: all)")
    parser.add_argument("--device", choices=list(PARTS), default="cpu")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results and docs/speed.md")
    options = parser.parse_args(arguments)
    parts = PARTS[options.device]
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        raise UsageError(f"expected parts among {', '.join(parts)} on {options.device}, got {unknown[0]!r}")
    if options.save and options.parts:
        raise UsageError("--save keeps one record of all parts: leave the parts out")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: expected a CUDA device, found none: use --device cpu")
    keep_freed_memory()  # as a run does: else page faults of fresh memory are most of what is timed
    print(f"load of the machine before the start: {LOAD:.1f}" + (": the figures will suffer" if LOAD > 0.5 else ""))
    found: dict[str, list[Row]] = {}
    for part in options.parts or parts:
        torch.set_num_threads(THREADS)
        found[part] = list(parts[part]())
        print(f"\n{table(found[part])}\n", flush=True)
    if options.save:
        record = save(found, options.device)
        (ROOT / "docs" / "speed.md").write_text(page(record), encoding="utf-8")
        print(f"saved: docs/speed.md, benchmarks/results/{record.name}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
