"""The command `evaluate`."""

import argparse
from pathlib import Path

from harness.command import OneLineParser, Subparsers
from harness.errors import UsageError
from harness.history import read_history


def add(subparsers: Subparsers) -> None:
    """The command `evaluate`."""
    parser: OneLineParser = subparsers.add_parser(
        "evaluate", allow_abbrev=False, help="answer held-out prompts with a finished run's weights"
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--samples", type=int, default=8, help="answers per prompt (default: 8)")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="new folder for the answers")
    parser.set_defaults(start=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate a run's final weights into a folder of its own."""
    if options.samples < 1:
        raise UsageError(f"--samples: expected 1 or more, got {options.samples}")
    config = read_history(Path(options.run)).config
    from harness.evaluation import evaluate
    from harness.loop import set_up_torch
    from harness.manifest import FolderFault, check_manifest
    from harness.policy import load_policy
    from harness.record import RunFolder, make_folder, refuse_used_folder

    weights = Path(options.run) / "checkpoints" / "final"
    try:
        check_manifest(weights)
    except FolderFault as fault:
        raise UsageError(f"expected the folder of a finished run with its final weights: {fault}") from None
    refuse_used_folder(Path(options.output_dir))
    make_folder(Path(options.output_dir))
    set_up_torch(config.run.threads)
    policy = load_policy(str(weights), config.model.dtype)
    answers = evaluate(policy, config, config.run.steps, options.samples)
    RunFolder(Path(options.output_dir)).add_evaluation(answers)
    correct = sum(answer.correct for answer in answers) / len(answers)
    print(f"accuracy {correct:.4f} over {len(answers)} answers: {options.output_dir}")
