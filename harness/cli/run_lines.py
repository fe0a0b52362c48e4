"""The lines of a run: what it is before it begins, how each step went, and what may follow its end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from harness.config.base import spelled
from harness.config.loss import LossSettings
from harness.config.schedule import guessed_seconds, samples_at
from harness.config.schema import Config
from harness.console import command, expect, in_words, say
from harness.errors import UsageError
from harness.run.history import read_history

if TYPE_CHECKING:
    from harness.algorithm.metrics import Metrics


def start_lines(config: Config, path: Path) -> Iterator[str]:
    """Model, task, device, loss, size, folder and time of a run that begins."""
    import torch

    from harness.algorithm.state import on_gpu

    run, rollout = config.run, config.rollout
    device = torch.cuda.get_device_name() if on_gpu(config) else "CPU"
    place = f"{device}, threads {run.threads}, ranks {config.backend.nproc}"
    yield f"training {describe_model(config)} on {config.task.task}, {place}"
    yield f"loss {describe_loss(config.loss)}; lr {config.optimizer.lr:g}"
    seconds = guessed_seconds(config)
    time = "known after the first step" if seconds is None else f"about {in_words(seconds)}"
    size = f"{run.steps} steps of {rollout.prompts_per_step} x {rollout.group_size} responses"
    yield f"{size}, seed {run.seed}; time: {time}"
    yield f"folder {path}"


def describe_model(config: Config) -> str:
    """The model's name and its number of parameters, if its shape is known before it is loaded."""
    from harness.plan.shapes import shape_of  # this imports transformers

    with suppress(UsageError):
        return f"{config.model.model} ({shape_of(config.model).parameters:,} parameters)"
    return config.model.model


def describe_loss(loss: LossSettings) -> str:
    """The loss, its averaging, the hyperparameters that its formula has, and what else is not at its default."""
    formula = {"averaging", *map(loss.flag, loss.loss_fields())}
    usual = {name: None if name in formula else field.default for name, field in type(loss).model_fields.items()}
    shown = {name: value for name, value in loss if value not in (usual[name], None, False, 0)}
    words = [
        f"{name} {f'{value:g}' if isinstance(value, float) else spelled(value)}"
        for name, value in shown.items()
        if name != "loss_type" and name not in loss.unused
    ]
    return ", ".join([loss.loss_type, *words])


def time_left(config: Config, done: "Sequence[Metrics]", steps: int | None = None) -> float:
    """Estimated seconds left: a step as the mean of the last three, an evaluation's answer as in the last evaluation.

    done: the metrics of the steps made in this process, newest last. steps: where it ends, if before the last step.
    """
    from harness.algorithm.metrics import PHASES

    step, end = int(done[-1]["step"] or 0) + 1, steps or config.run.steps
    spent = [{name: float(metrics[f"time/{name}_s"] or 0) for name in PHASES} for metrics in done]
    own = [sum(seconds.values()) - seconds["evaluation"] for seconds in spent[-3:]]
    evaluated = [
        seconds["evaluation"] / answers
        for seconds, metrics in zip(spent, done, strict=True)
        if (answers := answers_in(int(metrics["step"] or 0), config))  # none where a spent budget brings one forward
    ]
    answers = sum(answers_in(later, config) for later in range(step, end))
    return fmean(own) * (end - step) + (evaluated[-1] if evaluated else 0.0) * answers


def answers_in(step: int, config: Config) -> int:
    """Answers per prompt in the evaluations of a step; the first step's include the one before training."""
    return samples_at(step + 1, config) + (samples_at(0, config) if step == 0 else 0)


def step_printer(config: Config, steps: int | None = None) -> "Callable[[Metrics], None]":
    """A function that prints a line per training step, with the time left until `steps` are done (default: all)."""
    made: list[Metrics] = []

    def show(metrics: "Metrics") -> None:
        made.append(metrics)
        left = time_left(config, made, steps)
        expect(left)
        say(f"{step_line(metrics, steps or config.run.steps)}  {in_words(left)} left")

    return show


def step_line(metrics: "Metrics", steps: int) -> str:
    """A step's numbers, each under its name, in columns; `-` for what was not measured."""
    clipped = [value for name, value in metrics.items() if name.startswith("loss/clip_fraction_") and value is not None]
    columns = {
        "reward": (metrics.get("rollout/reward_mean"), "6.3f"),
        "accuracy": (metrics.get("rollout/accuracy"), "5.3f"),
        "tokens": (metrics.get("rollout/response_tokens_mean"), "6.1f"),
        "KL": (metrics.get("loss/kl_to_old"), "7.4f"),
        "clipped": (sum(clipped) if clipped else None, "5.1%"),
        "entropy": (metrics.get("rollout/entropy"), "5.3f"),
    }
    shown = [
        f"{name} {'-':>{form[0]}}" if value is None else f"{name} {value:{form}}"
        for name, (value, form) in columns.items()
    ]
    return "  ".join([f"step {int(metrics['step'] or 0) + 1:{len(str(steps))}}/{steps}", *shown])


def end_lines(path: Path) -> Iterator[str]:
    """What a finished run came to, and commands that may follow."""
    history = read_history(path)
    before, after = (history.table("evals", step) for step in (0, history.steps_done))
    gain = ""
    if before and after:
        first, last = (fmean(row["correct"] for row in rows) for rows in (before, after))
        gain = f"; held-out accuracy {first:.3f} before, {last:.3f} after {history.steps_done} steps"
    yield f"finished: {path}{gain}"
    yield f"report:    {command('analysis', 'report', path, '--output_dir', f'{path}-report')}"
    yield f"evaluate:  {command('harness', 'evaluate', path, '--output_dir', f'{path}-scores')}"
    yield f"in MLflow: {command('sweeps', 'ui', path.parent)}"
