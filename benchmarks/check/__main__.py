"""python -m benchmarks.check [SECTION ...]: whether the harness computes rightly on this GPU, how fast, in what memory.

Every section stops at the deadline; what it found is kept in benchmarks/results. Exit code 1 if something is wrong.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.check.finding import Finding
from benchmarks.check.numerics import attention, head, operators, trainer
from benchmarks.check.speed import speed
from benchmarks.check.whole import deepspeed, needing, runs, vllm
from benchmarks.frame import RESULTS, machine, named
from harness.backends.torch_setup import set_up_torch
from harness.cli.parser import OneLineParser, run_command
from harness.errors import HarnessError, UsageError, first_line
from harness.run.environment import gpu_facts

Section = Callable[[str], Iterator[Finding]]
SECTIONS: dict[str, Section] = {
    "operators": operators,
    "attention": attention,
    "trainer": trainer,
    "head": head,
    "runs": runs,
    "speed": speed,
    "deepspeed": needing("deepspeed", deepspeed),
    "vllm": needing("vllm", vllm),
}


def main(arguments: list[str]) -> None:
    """Run the sections, print what they find, and write the record."""
    parser = OneLineParser(prog="python -m benchmarks.check", allow_abbrev=False, description="Check a GPU.")
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: small, to see that it runs")
    parser.add_argument("--seconds", type=float, default=480.0, help="begin nothing new after so many")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: expected a CUDA device, found none: use --device cpu")
    set_up_torch(threads=1)
    deadline = time.monotonic() + options.seconds
    about = machine(options.device) | (gpu_facts() if options.device == "cuda" else {})
    found = {name: run(name, options.device, deadline) for name in options.sections or SECTIONS}
    path = RESULTS / f"check-{named(str(about['device']))}.json"
    path.write_text(json.dumps({"machine": about, "sections": found}, indent=1) + "\n", encoding="utf-8")
    print(f"saved: benchmarks/results/{path.name}")
    if wrong := sum(one["is_right"] is False for section in found.values() for one in section):
        raise HarnessError(f"{wrong} of the findings above are wrong")


def run(name: str, device: str, deadline: float) -> list[dict[str, Any]]:
    """The section's findings up to the deadline; an error is one of them."""
    found, begun = list[Finding](), time.monotonic()
    print(name, flush=True)

    def note(finding: Finding) -> None:
        found.append(finding)
        print(f"  {finding}", flush=True)

    try:
        for finding in SECTIONS[name](device):
            note(finding)
            if time.monotonic() > deadline:
                note(Finding("ended early", "no time was left"))
                break
    except Exception as error:
        note(Finding("failed", f"{type(error).__name__}: {first_line(error)}", False))
    note(Finding("seconds", round(time.monotonic() - begun, 1)))
    return [asdict(finding) for finding in found]


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("losses", "harness")))
