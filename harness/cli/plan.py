"""The command `plan`."""

import argparse

from harness.cli.flags import add_with_settings, resolved
from harness.cli.parser import Subparsers
from harness.errors import UsageError
from harness.plan.cost import assumed
from harness.plan.job import find_gpu, make_job
from harness.plan.shapes import shape_of
from harness.plan.text import plan_text

ASSUMPTIONS = {
    "mean_prompt_tokens": "tokens of a prompt on average (default: 200, of a chain sum its own)",
    "mean_response_tokens": "tokens of a response on average (default: half of --max_response_tokens)",
    "sampling_rounds": "rounds of dynamic sampling a step (default: as many as fill it where half the groups count)",
    "compute_share": "share of the GPU's FLOP/s that training reaches (default: 0.4)",
    "bandwidth_share": "share of the GPU's bytes/s that drawing reaches (default: 0.6)",
}


def add(subparsers: Subparsers) -> None:
    """The command `plan`."""
    purpose = "print memory per GPU, tokens, FLOPs and hours of a run, and whether it fits, without loading anything"
    parser = add_with_settings(subparsers, "plan", purpose, run)
    parser.usage = "%(prog)s [--gpus N] [--gpu NAME] [--setting value ...]"
    group = parser.add_argument_group("plan", "What it is planned for, and what no plan can know.")
    group.add_argument("--gpus", type=int, metavar="int", help="GPUs of all hosts together (default: --nproc)")
    group.add_argument("--gpu", default="h100", metavar="NAME", help="h100, h200 or a100 (default: h100)")
    group.add_argument("--gpu_memory", type=float, metavar="GIB", help="its memory, GiB (default: the data sheet's)")
    for name, words in ASSUMPTIONS.items():
        group.add_argument(f"--{name}", type=float, metavar="float", help=words)


def run(options: argparse.Namespace) -> None:
    """Print the plan."""
    given = {name: getattr(options, name) for name in ASSUMPTIONS}
    for name, value in (given | {"gpu_memory": options.gpu_memory}).items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name}: expected a number above 0, got {value:g}")
    config = resolved(options)
    if (mean := given["mean_response_tokens"]) and mean > config.rollout.max_response_tokens:
        limit = config.rollout.max_response_tokens
        raise UsageError(f"--mean_response_tokens {mean:g} must be at most --max_response_tokens {limit}: lower it")
    shape = shape_of(config.model)
    job = make_job(config, shape, options.gpus, find_gpu(options.gpu, options.gpu_memory))
    print(plan_text(job, assumed(config, given), options.preset or options.config or "these settings"))
