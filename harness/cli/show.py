"""`show` and `plan`: what the settings mean before a run starts: the loss and its confounds, memory, cost and fit."""

import argparse

from harness.cli.parser import Subparsers, add_with_settings, resolved
from harness.config.differences import differences_text
from harness.config.resolve import resolve, settings_in
from harness.errors import MEMORY_ADVICE, HarnessError, UsageError

ASSUMPTIONS = {
    "mean_prompt_tokens": "mean tokens per prompt (default: 200 for task math, exact for a task of the tiny model)",
    "mean_response_tokens": "mean tokens per response (default: half of --max_response_tokens)",
    "sampling_rounds": "rounds of dynamic sampling per step (default: as needed if half of all groups are kept)",
    "compute_share": "share of the GPU's peak FLOP/s that training reaches (default: 0.4)",
    "bandwidth_share": "share of the GPU's memory bandwidth that sampling reaches (default: 0.6)",
}


def add(subparsers: Subparsers) -> None:
    purpose = "explain the loss that the settings give, or compare two presets"
    parser = add_with_settings(subparsers, "show", purpose, run_show)
    parser.usage = "%(prog)s [PRESET] [--against PRESET] [--setting value ...]"
    parser.add_argument("preset_name", metavar="PRESET", nargs="?", help="the same as --preset")
    parser.add_argument(
        "--against", metavar="PRESET", help="print the differences from this preset, with confounds marked"
    )

    purpose = (
        "estimate memory per GPU, tokens, FLOPs and hours of a run, and whether it fits; exit code 1 if it does not"
    )
    parser = add_with_settings(subparsers, "plan", purpose, run_plan)
    parser.usage = "%(prog)s [--gpus N] [--gpu NAME] [--setting value ...]"
    group = parser.add_argument_group("plan", "The hardware, and assumptions that the plan cannot verify.")
    group.add_argument("--gpus", type=int, metavar="int", help="GPUs on all hosts together (default: --nproc)")
    group.add_argument("--gpu", default="h100", metavar="NAME", help="h100, h200 or a100 (default: h100)")
    group.add_argument("--gpu_memory", type=float, metavar="GIB", help="GPU memory in GiB (default: the data sheet's)")
    for name, words in ASSUMPTIONS.items():
        group.add_argument(f"--{name}", type=float, metavar="float", help=words)


def run_show(options: argparse.Namespace) -> None:
    if options.preset_name is not None:
        if options.preset is not None:
            raise UsageError(f"show: expected one preset, got {options.preset_name!r} and --preset {options.preset}")
        options.preset = options.preset_name
    if options.against is None:
        from harness.config.explain import loss_text

        print(loss_text(resolved(options)))
        return
    ours = resolve(settings_in(vars(options)), options.preset, options.config)
    name = options.preset or options.config
    name = "these settings" if name in (None, options.against) else name
    try:
        theirs = resolve({}, options.against)
    except UsageError as error:
        raise UsageError(f"--against {options.against}: {error}") from None
    for line in differences_text({name: ours, options.against: theirs}):
        print(line)


def run_plan(options: argparse.Namespace) -> None:
    given = {name: getattr(options, name) for name in ASSUMPTIONS}
    for name, value in (given | {"gpu_memory": options.gpu_memory}).items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name}: expected a number above 0, got {value:g}")
    config = resolved(options)
    if (mean := given["mean_response_tokens"]) and mean > config.rollout.max_response_tokens:
        limit = config.rollout.max_response_tokens
        raise UsageError(f"--mean_response_tokens {mean:g} must be at most --max_response_tokens {limit}: lower it")
    from harness.plan.cost import assumed
    from harness.plan.job import find_gpu, make_job
    from harness.plan.shapes import shape_of
    from harness.plan.text import plan_text, shortages

    job = make_job(config, shape_of(config.model), options.gpus, find_gpu(options.gpu, options.gpu_memory))
    print(plan_text(job, assumed(job, given), options.preset or options.config or "these settings"))
    if lacking := "; ".join(shortages(job)):
        raise HarnessError(
            f"expected a run that fits {job.gpus} x {job.gpu.name}, but {lacking}: take more GPUs or --rollout_tp, or "
            f"{MEMORY_ADVICE}"
        )
    print("\nFits.")
