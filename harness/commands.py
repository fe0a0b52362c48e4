"""What `python -m harness` can do."""

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.command import OneLineParser, add_setting_flags, parsed
from harness.config import Config, section_of
from harness.errors import UsageError
from harness.metrics import Metrics
from harness.settings import resolve
from harness.show import loss_text

Subparsers = Any  # argparse does not name this type


def add_train(subparsers: Subparsers) -> None:
    """The command `train`."""
    parser: OneLineParser = subparsers.add_parser(
        "train",
        allow_abbrev=False,
        usage="%(prog)s [--setting value ...]",
        help="train a model under one loss and record the run",
    )
    add_settings(parser)
    parser.set_defaults(start=train_command)


def add_show(subparsers: Subparsers) -> None:
    """The command `show`."""
    parser: OneLineParser = subparsers.add_parser(
        "show",
        allow_abbrev=False,
        usage="%(prog)s [--setting value ...]",
        help="print what the resolved loss does, and what other implementations do differently",
    )
    add_settings(parser)
    parser.set_defaults(start=show_command)


def add_settings(parser: OneLineParser) -> None:
    """Where settings come from: a preset, a file, a flag each."""
    parser.add_argument("--preset", metavar="NAME", help="settings shipped in harness/presets, or a TOML file")
    parser.add_argument("--config", metavar="FILE", help="settings from TOML, or from a run's config.json")
    add_setting_flags(parser)


def add_evaluate(subparsers: Subparsers) -> None:
    """The command `evaluate`."""
    parser: OneLineParser = subparsers.add_parser(
        "evaluate", allow_abbrev=False, help="answer held-out prompts with a finished run's weights"
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--samples", type=int, default=8, help="answers per prompt (default: 8)")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="new folder for the answers")
    parser.set_defaults(start=evaluate_command)


def add_prepare(subparsers: Subparsers) -> None:
    """The command `prepare`."""
    parser: OneLineParser = subparsers.add_parser(
        "prepare", allow_abbrev=False, help="build and cache the tiny model for a config"
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="settings from TOML or JSON")
    parser.set_defaults(start=prepare_command)


def train_command(options: argparse.Namespace) -> None:
    """Train, a line per step."""
    flags = given_flags(options)
    config = resolve(flags, options.preset, options.config)
    say_what_is_idle(flags, config)
    from harness.loop import train

    path = Path(config.run.output_dir or default_folder(config))
    folder = train(config, path, step_printer(config.run.steps), print_warm_start)
    print(f"finished: {folder.path}")


def show_command(options: argparse.Namespace) -> None:
    """Print the resolved loss."""
    flags = given_flags(options)
    config = resolve(flags, options.preset, options.config)
    say_what_is_idle(flags, config)
    print(loss_text(config))


def given_flags(options: argparse.Namespace) -> dict[str, str | None]:
    """The settings that the command line names."""
    return {name: parsed(value) for name, value in vars(options).items() if name in section_of()}


def evaluate_command(options: argparse.Namespace) -> None:
    """Evaluate a run's final weights into a folder of its own."""
    if options.samples < 1:
        raise UsageError(f"--samples: expected 1 or more, got {options.samples}")
    config = resolve({}, config_file=str(Path(options.run) / "config.json"))
    from harness.evaluation import evaluate
    from harness.loop import set_up_torch
    from harness.policy import load_policy
    from harness.record import RunFolder, make_folder, refuse_used_folder

    weights = Path(options.run) / "checkpoints" / "final"
    if not (weights / "manifest.json").is_file():
        raise UsageError(
            f"expected the folder of a finished run, got {options.run!r}: it has no {weights.name} weights"
        )
    refuse_used_folder(Path(options.output_dir))
    make_folder(Path(options.output_dir))
    set_up_torch(config.run.threads)
    policy = load_policy(str(weights), config.model.dtype)
    answers = evaluate(policy, config, config.run.steps, options.samples)
    RunFolder(Path(options.output_dir)).add_evaluation(answers)
    correct = sum(answer.correct for answer in answers) / len(answers)
    print(f"accuracy {correct:.4f} over {len(answers)} answers: {options.output_dir}")


def prepare_command(options: argparse.Namespace) -> None:
    """Build and cache the tiny model that a config asks for, so that many runs can start at once."""
    config = resolve({}, config_file=options.config)
    from harness.loop import initial_policy, set_up_torch

    set_up_torch(config.run.threads)
    initial_policy(config, print_warm_start)
    print("ready")


def say_what_is_idle(flags: dict[str, str | None], config: Config) -> None:
    """One line for each setting that does less than its user may think."""
    loss = config.loss
    if loss.loss_type == "fipo" and loss.delta is None:
        print(
            "note: --delta none means neither dual clip nor Future-KL filter, which the FIPO paper found unstable; "
            "its recipes have --delta 10"
        )
    for flag in flags:
        if flag.startswith("fipo_") and loss.loss_type != "fipo":
            print(f"note: --{flag} has no effect with --loss_type {loss.loss_type}")


def default_folder(config: Config) -> str:
    """runs/<time>-<loss>-seed<seed>."""
    return f"runs/{datetime.now():%Y%m%d-%H%M%S}-{config.loss.loss_type}-seed{config.run.seed}"


def print_warm_start(done: int, total: int) -> None:
    """A line at the start and at every tenth of the warm start."""
    if done == 1 or done % max(1, total // 10) == 0:
        print(f"warm start: step {done}/{total}", flush=True)


def step_printer(steps: int) -> Callable[[Metrics], None]:
    """Prints a line per training step, with the time left at the pace so far."""

    def show(metrics: Metrics) -> None:
        done = int(metrics["step"] or 0) + 1
        left = float(metrics["time/elapsed_s"] or 0) / done * (steps - done)
        print(
            f"step {done}/{steps}  accuracy {metrics['rollout/accuracy']:.3f}  "
            f"tokens {metrics['rollout/response_tokens_mean']:.1f}  entropy {metrics['rollout/entropy']:.3f}  "
            f"rounds {metrics['rollout/sampling_rounds']}  {left:.0f} s left",
            flush=True,
        )

    return show
