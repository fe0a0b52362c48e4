"""The lines of a run: what it is before it begins, how each step went, and what may follow its end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.config.base import spelled
from harness.config.loss import LossSettings, is_anothers
from harness.config.resolve import tree_of
from harness.config.schedule import is_due, samples_at
from harness.config.schema import Config
from harness.console import command, expect, in_words, say
from harness.errors import UsageError
from harness.files import json_object
from harness.run.folder import METRICS, STATUS
from harness.run.history import read_history, read_lines

if TYPE_CHECKING:
    from harness.algorithm.metrics import Metrics

MAIN = "epsilon", "epsilon_high", "fipo_decay_rate", "fipo_clip_range"  # of a loss, said even at their defaults
NEWEST = 20  # runs beside this one that may tell how long it takes


def start_lines(config: Config, path: Path) -> Iterator[str]:
    """Model, task, device, loss, size, folder and time of a run that begins."""
    run, rollout = config.run, config.rollout
    yield f"training {model_words(config)} on {config.task.task}, {device_words(config)}"
    yield f"loss {loss_words(config.loss)}; lr {config.optimizer.lr:g}"
    size = f"{run.steps} steps of {rollout.prompts_per_step} x {rollout.group_size} responses"
    yield f"{size}, seed {run.seed}; time: {time_words(config, path)}"
    yield f"folder {path}"


def model_words(config: Config) -> str:
    """The model's name and its number of parameters, if its shape is known before it is loaded."""
    from harness.plan.shapes import shape_of  # this imports transformers

    with suppress(UsageError):
        shape, rank = shape_of(config.model), config.model.lora_rank
        adapters = f", adapters of {shape.adapters(rank):,}" if rank else ""
        return f"{config.model.model} ({shape.parameters:,} parameters{adapters})"
    return config.model.model


def loss_words(loss: LossSettings) -> str:
    """The loss with its main settings and those that are not at their defaults."""
    fields = type(loss).model_fields
    shown = [
        f"{name} {f'{value:g}' if isinstance(value, float) else spelled(value)}"
        for name, value in loss
        if name != "loss_type"
        and not is_anothers(name, loss.loss_type)
        and (name in MAIN or value != fields[name].default)
    ]
    return ", ".join([loss.loss_type, *shown])


def device_words(config: Config) -> str:
    """Where it computes, with threads and ranks."""
    import torch

    from harness.algorithm.state import on_gpu

    device = torch.cuda.get_device_name() if on_gpu(config) else "CPU"
    count, threads = config.backend.nproc, config.run.threads
    ranks = f", {count} ranks" if count > 1 else ""
    return f"{device}, {threads} thread{'s' * (threads > 1)}{ranks}"


def time_words(config: Config, path: Path) -> str:
    """About how long it takes, as far as a run of the same size beside it tells."""
    newest = sorted(path.parent.glob(f"*/{STATUS}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in newest[:NEWEST]:
        status, recorded = (json_object(file.with_name(name)) or {} for name in (STATUS, "config.json"))
        if status.get("state") == "finished" and size_of(recorded.get("config")) == size_of(tree_of(config)):
            seconds = read_lines(file.with_name(METRICS))[-1]["time/elapsed_s"]
            return f"about {in_words(seconds)}, as {file.parent} took"
    return "known after the first step"


def size_of(tree: Any) -> dict[str, Any] | None:
    """The settings on which the time depends most: all but those of loss and optimizer, seed and folder."""
    if not isinstance(tree, dict) or not isinstance(run := tree.get("run"), dict):
        return None
    apart = {name: value for name, value in run.items() if name not in ("seed", "output_dir")}
    return {name: value for name, value in tree.items() if name not in ("loss", "optimizer")} | {"run": apart}


def time_left(config: Config, done: "Sequence[Metrics]", steps: int | None = None) -> float:
    """Estimated seconds left: a step as the mean of the last three, an evaluation's answer as in the last evaluation.

    done: the metrics of the steps made in this process, newest last. steps: where it ends, if before the last step.
    """
    from harness.algorithm.metrics import PHASES

    step, end = int(done[-1]["step"] or 0) + 1, steps or config.run.steps
    spent = [{name: float(metrics[f"time/{name}_s"] or 0) for name in PHASES} for metrics in done]
    own = [sum(seconds.values()) - seconds["evaluation"] for seconds in spent[-3:]]
    evaluated = [
        seconds["evaluation"] / answers_in(int(metrics["step"] or 0), config)
        for seconds, metrics in zip(spent, done, strict=True)
        if seconds["evaluation"]
    ]
    answers = sum(answers_in(later, config) for later in range(step, end))
    return sum(own) / len(own) * (end - step) + (evaluated[-1] if evaluated else 0.0) * answers


def answers_in(step: int, config: Config) -> int:
    """Answers per prompt in the evaluations of a step; the first step's include the one before training."""
    before = samples_at(0, config) if step == 0 else 0
    return before + (samples_at(step + 1, config) if is_due(step + 1, config) else 0)


def step_printer(config: Config, steps: int | None = None) -> "Callable[[Metrics], None]":
    """A function that prints a line per training step, with the time left until `steps` are done (default: all)."""
    made: list[Metrics] = []

    def show(metrics: "Metrics") -> None:
        made.append(metrics)
        left = time_left(config, made, steps)
        expect(left)
        say(f"{step_line(metrics, config, steps or config.run.steps)}  {in_words(left)} left")

    return show


def step_line(metrics: "Metrics", config: Config, steps: int) -> str:
    """A step's numbers, each under its name, in columns."""

    def number(name: str, form: str) -> str:
        value = metrics.get(name)
        return format(value, form) if value is not None else format("-", ">" + form.partition(".")[0])

    clipped = [value for name, value in metrics.items() if name.startswith("loss/clip_fraction_") and value is not None]
    done = int(metrics["step"] or 0) + 1
    columns = [
        f"step {done:{len(str(steps))}}/{steps}",
        f"reward {number('rollout/reward_mean', '6.3f')}",
        f"accuracy {number('rollout/accuracy', '5.3f')}",
        f"tokens {number('rollout/response_tokens_mean', '6.1f')}",
        f"KL {number('loss/kl_to_old', '7.4f')}",
        *([f"to reference {number('loss/kl_to_reference', '6.4f')}"] if config.loss.needs_reference else []),
        f"clipped {sum(clipped):5.1%}",
        f"entropy {number('rollout/entropy', '5.3f')}",
        *([f"rounds {metrics['rollout/sampling_rounds']}"] if config.rollout.dynamic_sampling else []),
        *([f"unchecked {number('rollout/unchecked_share', '.1%')}"] if metrics["rollout/unchecked_share"] else []),
    ]
    return "  ".join(columns)


def end_lines(path: Path) -> Iterator[str]:
    """What a finished run came to, and commands that may follow."""
    history = read_history(path)
    before, after = (history.table("evals", step) for step in (0, history.steps_done))
    gain = ""
    if before and after:
        first, last = (fmean(row["correct"] for row in rows) for rows in (before, after))
        gain = f"; held-out accuracy {first:.3f} before, {last:.3f} after {history.steps_done} steps"
    yield f"finished: {path}{gain}"
    if not is_of_study(path):
        report, scores = (f"{path}-{word}" for word in ("report", "scores"))
        yield f"report:    {command('analysis', 'report', path, '--output_dir', report)}"
        yield f"evaluate:  {command('harness', 'evaluate', path, '--output_dir', scores)}"
        yield f"in MLflow: {command('sweeps', 'ui', path.parent)}"


def is_of_study(path: Path) -> bool:
    """Whether the run is one of a study's, which says and logs what is to be said of it."""
    return (path.parent.parent / "study.json").is_file()
