"""python -m benchmarks [PART ...] [--device cuda] [--save]: figures and targets beside peers and the hardware."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator

import torch

from benchmarks import future_kl, gpu, logprobs, loss_cost, overhead, padding, recording, runs, sampling, size
from benchmarks.step import page as step
from benchmarks.table import Row, printed, saved
from harness.backends.torch_setup import keep_freed_memory
from harness.cli.parser import OneLineParser, run_command
from harness.errors import UsageError


def on_cpu(rows: Callable[[], Iterator[Row]]) -> Callable[[str], Iterator[Row]]:
    """A part that has no rows on a GPU."""
    return lambda device: rows() if device == "cpu" else iter(())


PARTS: dict[str, Callable[[str], Iterator[Row]]] = {
    "step": on_cpu(step.rows),
    "sampling": on_cpu(sampling.rows),
    "padding": on_cpu(padding.rows),
    "size": on_cpu(size.rows),
    "overhead": on_cpu(overhead.rows),
    "future_kl": future_kl.rows,
    "losses": lambda device: itertools.chain(
        loss_cost.rows(device), loss_cost.share_of_step() if device == "cpu" else ()
    ),
    "logprobs": logprobs.rows,
    "recording": on_cpu(recording.rows),
    "gpu": gpu.rows,
    "runs": on_cpu(runs.rows),
}


def main(arguments: list[str]) -> None:
    """Run the parts named, or all, and print the table of each as it ends."""
    parser = OneLineParser(
        prog="python -m benchmarks", allow_abbrev=False, description="Speed and memory beside peers."
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise UsageError(f"expected parts among {', '.join(PARTS)}, got {unknown[0]!r}")
    if options.save and options.parts:
        raise UsageError("--save keeps one record of all parts: leave the parts out")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: expected a CUDA device, found none: use --device cpu")
    keep_freed_memory()  # as a run does: else page faults of fresh memory are most of what is timed
    load = os.getloadavg()[0]
    print(f"load of the machine before the start: {load:.1f}" + (": the figures will suffer" if load > 0.5 else ""))
    rows: dict[str, list[Row]] = {}
    for part in options.parts or PARTS:
        torch.set_num_threads(options.threads)  # a part that trains sets its own
        rows[part] = list(PARTS[part](options.device))
        if rows[part]:
            print(f"\n{printed(rows[part])}\n", flush=True)
    if len(rows) > 1:
        print(printed([row for found in rows.values() for row in found]))
    torch.set_num_threads(options.threads)
    if options.save:
        print(f"saved: {saved(rows, options.device, 'speed')}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
