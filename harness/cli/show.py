"""`show`, `plan` and `preflight`: what settings, or another trainer's launch, mean before a run starts."""

import argparse
from pathlib import Path

from harness.cli.parser import Subparsers, add_command, add_with_settings, resolved
from harness.config.differences import differences_text
from harness.config.resolve import resolve, settings_in
from harness.console import say
from harness.errors import MEMORY_ADVICE, HarnessError, UsageError


def add(subparsers: Subparsers) -> None:
    purpose = "explain the loss that the settings give, or compare two presets"
    parser = add_with_settings(subparsers, "show", purpose, run_show)
    parser.usage = "%(prog)s [PRESET] [--against PRESET] [--setting value ...]"
    parser.add_argument("preset_name", metavar="PRESET", nargs="?", help="the same as --preset")
    words = "print the differences from this preset, with confounds marked"
    parser.add_argument("--against", metavar="PRESET", help=words)

    purpose = "estimate a run's memory per GPU, and whether it fits; exit code 1 if it does not"
    parser = add_with_settings(subparsers, "plan", purpose, run_plan)
    parser.usage = "%(prog)s [--gpus N] [--gpu_memory GIB] [--setting value ...]"
    group = parser.add_argument_group("plan", "The hardware.")
    group.add_argument("--gpus", type=int, metavar="int", help="GPUs on all hosts together (default: --nproc)")
    words = "a GPU's memory in GiB, as nvidia-smi shows it (default: 79.6, an H100's; A100: 80, H200: 140.4)"
    group.add_argument("--gpu_memory", type=float, default=79.6, metavar="GIB", help=words)

    purpose = (
        "read a launch of verl, TRL or ms-swift, or compare two: the loss that will run, and what is wrong with it; "
        "exit code 1 if it finds an error, a warning, a confound or an unknown difference"
    )
    parser = add_command(subparsers, "preflight", purpose, run_preflight)
    parser.description = purpose
    parser.add_argument("launch", metavar="FILE", help="shell script, YAML, or Python with GRPOConfig(...)")
    parser.add_argument("other", metavar="FILE", nargs="?", help="another launch, to compare")
    parser.add_argument("--accuracy", type=float, metavar="P", help="share of right answers: forecasts lost groups")
    parser.add_argument("--processes", type=int, metavar="N", help="training processes, where the launch says none")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_show(options: argparse.Namespace) -> None:
    if None not in (options.preset_name, options.preset):
        raise UsageError(f"show: expected one preset, got {options.preset_name!r} and --preset {options.preset}")
    options.preset = options.preset if options.preset_name is None else options.preset_name
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


def run_preflight(options: argparse.Namespace) -> None:
    if options.accuracy is not None and not 0 <= options.accuracy <= 1:
        raise UsageError(f"--accuracy: expected a share from 0 to 1, got {options.accuracy:g}")
    if options.processes is not None and options.processes < 1:
        raise UsageError(f"--processes: expected 1 or more, got {options.processes}")
    from harness.preflight.reading import read_launch
    from harness.preflight.rules import findings
    from harness.preflight.terms import terms_of
    from harness.preflight.text import as_json, differences, page

    names = [options.launch] if options.other is None else [options.launch, options.other]
    if not all(name.strip() for name in names):
        raise UsageError("preflight: expected the name of a file, got an empty one: set the variable that names it")
    read = [terms_of(read_launch(Path(name), options.processes)) for name in names]
    launches = [(terms, findings(terms, options.accuracy)) for terms in read]
    between = differences(*read) if len(read) == 2 else []
    say(as_json(launches, between) if options.json else "\n".join(page(launches, between)))
    kinds = {one.severity for _, found in launches for one in found} | {one.kind for one in between}
    if kinds & {"error", "warning", "confound", "unknown"}:
        raise HarnessError("")  # exit code 1, as a linter's
