"""`show` and `plan`: what the settings mean before a run starts: the loss and its confounds, memory and fit."""

import argparse

from harness.cli.parser import Subparsers, add_with_settings, resolved
from harness.config.differences import differences_text
from harness.config.resolve import resolve, settings_in
from harness.errors import MEMORY_ADVICE, HarnessError, UsageError


def add(subparsers: Subparsers) -> None:
    purpose = "explain the loss that the settings give, or compare two presets"
    parser = add_with_settings(subparsers, "show", purpose, run_show)
    parser.usage = "%(prog)s [PRESET] [--against PRESET] [--setting value ...]"
    parser.add_argument("preset", metavar="PRESET", nargs="?", default=argparse.SUPPRESS, help="the same as --preset")
    words = "print the differences from this preset, with confounds marked"
    parser.add_argument("--against", metavar="PRESET", help=words)

    purpose = "estimate a run's memory per GPU, and whether it fits; exit code 1 if it does not"
    parser = add_with_settings(subparsers, "plan", purpose, run_plan)
    parser.usage = "%(prog)s [--gpus N] [--gpu_memory GIB] [--setting value ...]"
    group = parser.add_argument_group("plan", "The hardware.")
    group.add_argument("--gpus", type=int, metavar="int", help="GPUs on all hosts together (default: --nproc)")
    words = "a GPU's memory in GiB, as nvidia-smi shows it (default: 79.6, an H100's; A100: 80, H200: 140.4)"
    group.add_argument("--gpu_memory", type=float, default=79.6, metavar="GIB", help=words)


def run_show(options: argparse.Namespace) -> None:
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
    config = resolved(options)
    from harness.plan.job import make_job
    from harness.plan.shapes import shape_of
    from harness.plan.text import plan_text, shortages

    job = make_job(config, shape_of(config.model), options.gpus, options.gpu_memory)
    print(plan_text(job, options.preset or options.config or "these settings"))
    if lacking := "; ".join(shortages(job)):
        raise HarnessError(
            f"expected a run that fits {job.hardware}, but {lacking}: take more GPUs or --rollout_tp, or "
            f"{MEMORY_ADVICE}"
        )
    print("\nFits.")
