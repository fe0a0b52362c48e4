"""python -m benchmarks [future_kl] [losses] [logprobs] [--device cuda] [--save]: one table of figures and targets."""

import argparse
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import future_kl, logprobs, loss_cost
from benchmarks.table import Row, printed, saved
from harness.loop import keep_freed_memory

PARTS: dict[str, Callable[[str], Iterator[Row]]] = {
    "future_kl": future_kl.rows,
    "losses": lambda device: itertools.chain(
        loss_cost.rows(device), loss_cost.share_of_step() if device == "cpu" else ()
    ),
    "logprobs": logprobs.rows,
}


def main() -> None:
    """Run the parts named, or all, and print their table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory beside peers.")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: expected a CUDA device, found none: use --device cpu")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a run does: else page faults of fresh memory are most of what is timed
    load = os.getloadavg()[0]
    print(f"load of the machine before the start: {load:.1f}" + (": the figures will suffer" if load > 0.5 else ""))
    rows = [row for part in options.parts or PARTS for row in PARTS[part](options.device)]
    print(f"\n{printed(rows)}")
    if options.save:
        print(f"\nsaved: {saved(rows, options.device).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
