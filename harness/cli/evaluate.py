"""`evaluate`: benchmark scores of a run's final weights or of any model."""

import argparse
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from harness.cli.parser import Subparsers, add_with_settings
from harness.config.resolve import build, flatten, layered, preset_settings, settings_in, tree_of
from harness.config.scale import BackendSettings
from harness.config.schema import Config
from harness.console import say
from harness.errors import UsageError, before_start
from harness.run.history import History, read_history
from harness.tasks.own_files import recorded_code

BENCHMARK = {"task": "math", "train_data": None, "task_settings": None, "reward": None}  # whatever the run's task was
PUBLISHED = "evaluation"  # preset with the published protocol
# the part of the protocol that also applies to the weights of a run
PROTOCOL = ("eval_samples", "eval_prompts", "eval_temperature", "eval_top_p")


def add(subparsers: Subparsers) -> None:
    purpose = "score a run's final weights or any model on benchmarks, or on the run's held-out prompts"
    parser = add_with_settings(subparsers, "evaluate", purpose, run)
    parser.usage = "%(prog)s MODEL [--suite NAMES] [--samples K] [--setting value ...]"
    parser.add_argument("model_or_run", metavar="MODEL", help="folder of a finished run, transformers folder, hub name")
    words = "the same as --eval_data: aime24,aime25,math500,gsm8k or files"
    parser.add_argument("--suite", dest="eval_data", metavar="NAMES", default=argparse.SUPPRESS, help=words)
    words = "the same as --eval_samples (default: 32 with --suite, else 8)"
    parser.add_argument("--samples", dest="eval_samples", metavar="K", default=argparse.SUPPRESS, help=words)


def run(options: argparse.Namespace) -> None:
    """Evaluate a model and write answers and scores to --output_dir; repeating the command resumes it."""
    source = Path(options.model_or_run)
    is_run = (source / "config.json").is_file() and (source / "status.json").is_file()
    flags = settings_in(vars(options))
    if "eval_data" in flags:
        if not flags["eval_data"]:
            raise UsageError("--suite (--eval_data): expected benchmarks or files, got none: name some or leave it out")
        flags = {"eval_split": "report"} | flags | BENCHMARK
    if "output_dir" not in flags:
        raise UsageError("evaluate: expected --output_dir, got none: name a folder; the same command resumes it")
    history = read_history(source) if is_run else None
    config, weights = of_run(history, flags) if history else of_model(options, flags)
    with recorded_code(source) if history else nullcontext():
        answer(config, weights, history.steps_done if history else 0)


def of_run(history: History, flags: dict[str, Any]) -> tuple[Config, str]:
    """The run's config with the flags applied, and the path of its final weights.

    Benchmarks follow the published protocol unless a flag says otherwise. Raises UsageError for an unfinished run.
    """
    from harness.run.folder import FolderFault, check_manifest

    try:
        check_manifest(history.final_weights)
    except FolderFault as fault:
        raise UsageError(f"expected the folder of a finished run with its final weights: {fault}") from None
    default: dict[str, Any] = {"eval_samples": 8}
    if flags.get("eval_data"):
        default = {name: preset_settings(PUBLISHED)[name] for name in PROTOCOL}
    return build(flatten(tree_of(history.config)) | {"rollout_tp": 1} | default | flags), str(history.final_weights)


def of_model(options: argparse.Namespace, flags: dict[str, Any]) -> tuple[Config, str]:
    """The published protocol (or the given preset or file) with the flags applied, and the model's name."""
    model = options.model_or_run
    base = {} if options.preset or options.config else preset_settings(PUBLISHED)
    if "eval_data" not in flags:
        raise UsageError(
            f"evaluate {model}: expected --suite for a model that is not a run folder, got none: name benchmarks"
        )
    return build(layered(base | {"model": model} | flags, options.preset, options.config)), model


def answer(asked: Config, weights: str, step: int) -> None:
    """Draw the answers in this process, regardless of the backend that trained the weights, and print the scores."""
    from harness.algorithm.state import make_engine, make_task, on_gpu
    from harness.backends.torch_setup import set_up_torch
    from harness.evaluation.benchmark import evaluate_model
    from harness.evaluation.scores import result_lines
    from harness.model.policy import own_tensors
    from harness.rollouts.engine import SamplerContext
    from harness.run.initial_model import pretrained_policy
    from harness.tasks.math.task import read_data

    config = asked.model_copy(update={"backend": BackendSettings()})
    out = Path(str(config.run.output_dir))
    is_benchmark = config.task.task == "math" and config.evaluation.eval_split != "tune"  # "tune" splits training data
    data = read_data(config.data, trains=False) if is_benchmark else None
    set_up_torch(config.run.threads)
    policy = pretrained_policy(weights, config)
    if on_gpu(config) and config.engine.engine == "torch":
        policy.model.cuda()
    with closing(make_task(config, policy, data)) as task, closing(make_engine(config, policy)) as engine:
        with before_start():
            task.self_test()
        if engine.needs_weights:
            engine.load_weights(own_tensors(policy.model))
        results = evaluate_model(SamplerContext(policy, task, config, engine), step, out)
    for line in result_lines(results):
        say(line)
    say(f"answers and results: {out}")
