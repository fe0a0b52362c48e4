"""`reproduce`, `diff` and `replay`: repeat a run, compare two runs, apply another loss to a run's rollouts."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.cli.parser import Subparsers, add_command, add_setting_flags, default_folder, given_flags
from harness.cli.ranks import by_ranks
from harness.cli.train import step_printer
from harness.config.differences import settings_that_differ
from harness.config.resolve import with_loss
from harness.config.schema import LossSettings
from harness.console import say
from harness.errors import HarnessError, UsageError
from harness.run.history import History, read_history


def add(subparsers: Subparsers) -> None:
    purpose = "run a recorded run again and check that it is identical; exit code 1 if it is not"
    parser = add_command(subparsers, "reproduce", purpose, run_reproduce)
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--steps", type=int, help="compare only the first N steps (default: all)")
    parser.add_argument("--output_dir", metavar="DIR", help="new folder (default: runs/<time>-reproduced-<RUN>)")

    purpose = "show what differs between two runs: settings, environment, and the first step and quantity that diverge"
    parser = add_command(subparsers, "diff", purpose, run_diff)
    parser.add_argument("runs", metavar="RUN", nargs=2, help="folder of a run")

    purpose = "apply another loss to a run's stored rollouts at the same weights, and compare gradients"
    parser = add_command(subparsers, "replay", purpose, run_replay)
    parser.usage = "%(prog)s RUN --loss_type LOSS [--setting value ...]"
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--first_step", type=int, default=0, help="first step to compare (default: 0)")
    parser.add_argument("--steps", type=int, help="how many steps to compare (default: all remaining)")
    parser.add_argument("--output_dir", metavar="DIR", help="new folder (default: runs/<time>-replayed-<RUN>)")
    add_setting_flags(parser, only="loss")


def output_folder(options: argparse.Namespace, done: str) -> Path:
    return Path(options.output_dir or default_folder(f"{done}-{Path(options.run).absolute().name}"))


def run_reproduce(options: argparse.Namespace) -> None:
    history = read_history(Path(options.run))
    from harness.compare.divergence import agreement, explained
    from harness.compare.reproduce import comparable_steps, reproduce
    from harness.loop import ranks_of

    steps = comparable_steps(history, options.steps)
    history.check_records()
    out = output_folder(options, "reproduced")
    if by_ranks(history.config, [*options.arguments, "--output_dir", str(out)], out, is_new=True):
        return
    divergence = reproduce(history, out, steps, step_printer(history.config, steps))
    if not ranks_of(history.config).is_first:
        return
    if divergence:
        say("\n".join(explained(history, read_history(out), divergence)))
        raise HarnessError(f"{options.run} was not reproduced: {out}")
    *gaps, compared = agreement(history, read_history(out), steps)
    say("\n".join([*gaps, f"identical: {compared} of {steps} steps: {out}"]))


def run_diff(options: argparse.Namespace) -> None:
    ours, theirs = (read_history(Path(path)) for path in options.runs)
    from harness.compare.divergence import agreement, explained, first_divergence, shown
    from harness.run.environment import differing

    for history in (ours, theirs):
        history.check_records()
    for kind, differences in (
        ("settings", settings_that_differ(ours.config, theirs.config)),
        ("environment", differing(ours.environment, theirs.environment)),
    ):
        say(f"{kind}:" if differences else f"{kind}: the same")
        for name, (mine, other) in differences.items():
            say(f"  {name}: {shown(mine)} | {shown(other)}")
    if divergence := first_divergence(ours, theirs):
        say("\n".join(explained(ours, theirs, divergence)))
    else:
        steps = min(ours.steps_done, theirs.steps_done)
        *gaps, compared = agreement(ours, theirs, steps)
        say("\n".join([*gaps, f"the same over {steps} steps: {compared}"]))


def run_replay(options: argparse.Namespace) -> None:
    history = read_history(Path(options.run))
    flags = {name: value for name, value in given_flags(options).items() if name in LossSettings.model_fields}
    other = with_loss(history.config, flags)
    steps = chosen_steps(history, options.first_step, options.steps)
    history.check_records()
    from harness.backends.torch_setup import set_up_torch
    from harness.compare.replay import replay_run

    for flag, (own, replayed) in settings_that_differ(history.config, other).items():
        say(f"{flag}: {own} in the run, {replayed} in the replay")
    set_up_torch(history.config.run.threads)
    out = output_folder(options, "replayed")
    compared = []
    for lines in replay_run(history, other, steps, out):
        compared += lines
        say(summary(f"step {lines[0]['step']}" if lines else "a step without updates", lines))
    say(summary(f"all {len(steps)} steps", compared))
    say(f"update by update: {out / 'replay.jsonl'}")


def chosen_steps(history: History, first: int, count: int | None) -> range:
    """The range of steps to compare. Raises UsageError if the run has not done all of them."""
    done = history.steps_done
    count = done - first if count is None else count
    if first < 0 or count < 1 or first + count > done:
        raise UsageError(
            f"--first_step, --steps: expected steps among the {done} that {history.path} has done, "
            f"got {count} from step {first}"
        )
    return range(first, first + count)


def summary(what: str, lines: Sequence[dict[str, Any]]) -> str:
    """One line with means over the updates: the cosine, then each quantity as "run's loss | other loss"."""

    def mean(key: str) -> str:
        values = [line[key] for line in lines if line.get(key) is not None]
        return f"{fmean(values):.4g}" if values else "-"

    pairs = {
        "gradient norm": ("norm", "other_norm"),
        "clipped low": ("own/clip_fraction_low", "other/clip_fraction_low"),
        "high": ("own/clip_fraction_high", "other/clip_fraction_high"),
        "influence weight": ("own/influence_weight", "other/influence_weight"),
    }
    shown = ", ".join(f"{name} {mean(own)} | {mean(other)}" for name, (own, other) in pairs.items())
    return f"{what}: cosine {mean('cosine')}, {shown}"
