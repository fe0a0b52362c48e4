"""A whole training step beside TRL's, each in a process of its own, in turn, and where our time goes."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import cpu_rate
from benchmarks.models import LARGER, TINY, random_policy
from benchmarks.page import ROOT, TRL, Row
from harness.algorithm.state import make_task
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.errors import HarnessError, UsageError
from harness.model.policy import Policy, load_policy, write_policy
from harness.randomness import stream
from harness.run.packaged_model import NAME as PACKAGED
from harness.run.packaged_model import model_source
from harness.tasks.task import TRAINED_ON

OURS = [sys.executable, "-m", "benchmarks.step.own"]
THEIRS = [str(TRL / "bin" / "python"), "-P", "benchmarks/step/trl.py"]  # -P: else its folder hides the package trl
GROUP_SIZE, MINIBATCHES = 8, 4
LR = 1e-6  # so small that weights, and with them lengths, stay what they were
NEVER = 10**6  # steps: no evaluation and no checkpoint comes

Child = subprocess.Popen[str]
Step = dict[str, Any]  # a child's answer


@dataclass(frozen=True)
class Form:
    """A model, a batch and how long responses are."""

    name: str
    shape: dict[str, Any] | None  # of random weights, asked for chain sums; None: SmolLM2-135M, asked for worked sums
    prompts: int
    max_tokens: int
    is_free: bool  # whether the end token ends a response
    target: float  # times TRL's tokens per second
    warm: int  # steps of each that are not counted
    steps: int  # that are


FORMS = (
    Form("tiny model, 64 tokens each", TINY, 16, 64, False, 1.7, 2, 9),
    Form("tiny model, lengths vary", TINY, 16, 72, True, 3.2, 2, 9),
    Form("1.06 M parameters, 64 tokens each", LARGER, 32, 64, False, 1.7, 2, 5),
    Form("1.06 M parameters, lengths vary", LARGER, 32, 64, True, 3.2, 2, 5),
    Form("SmolLM2-135M, 64 tokens each", None, 4, 64, False, 2.0, 1, 1),
    Form("SmolLM2-135M, lengths vary", None, 4, 64, True, 3.2, 1, 2),
)


def rows(forms: tuple[Form, ...] = FORMS) -> Iterator[Row]:
    """Every form's figures."""
    if not (TRL / ".ready").is_file():
        raise UsageError("expected TRL 1.16.0 in an environment of its own, found none: run make .venv-trl/.ready")
    for form in forms:
        taken = form.warm + form.steps
        print(f"training steps, {form.name}, {taken} of ours and of TRL's in turn ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            spec = write_spec(form, Path(folder))
            ours, theirs = in_turn([[*OURS, str(spec)], [*THEIRS, str(spec)]], taken)
        check_prompts(ours, theirs)
        yield from figures(form, ours[form.warm :], theirs[form.warm :], cpu_rate())


def figures(form: Form, ours: list[Step], theirs: list[Step], rate: float) -> Iterator[Row]:
    """Trained tokens per CPU second, medians; of each phase its share of our time, and beside it what the arithmetic
    that it needs would take at the machine's rate, FLOPs per second."""
    speeds = [statistics.median(step["trained_tokens"] / step["cpu_s"] for step in steps) for steps in (ours, theirs)]
    limit = rate * statistics.median(step["trained_tokens"] / sum(step["flops"].values()) for step in ours)
    yield Row(form.name, speeds[0], "tokens/s", speeds[1], limit, form.target)
    whole = sum(step["cpu_s"] for step in ours)
    for phase in ours[0]["phases"]:
        spent = 100 * sum(step["phases"][phase] for step in ours) / whole
        needed = 100 * sum(step["flops"].get(phase, 0.0) for step in ours) / rate / whole
        yield Row(f"{form.name}: {phase}", spent, "%", limit=needed or None)


def write_spec(form: Form, folder: Path) -> Path:
    """The file that tells both children the same: model, prompts step by step, sizes."""
    policy = random_policy(form.shape) if form.shape else load_policy(model_source(PACKAGED))
    (folder / "model").mkdir()
    write_policy(folder / "model", policy)
    settings = settings_of(form, str(folder / "model"))
    spec = {
        "settings": settings,
        "prompts": drawn_prompts(resolve(settings), policy, form.warm + form.steps),
        "is_free": form.is_free,
        "end_ids": sorted(policy.end_ids),
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def settings_of(form: Form, model: str) -> dict[str, Any]:
    """Our run's. Rewards are tosses of a coin: responses of random weights are all wrong."""
    return {
        "model": model,
        "task": "graded_chain_sum" if form.shape else "worked_sums",
        "loss_type": "dapo",
        "epsilon_high": 0.28,
        "dynamic_sampling": False,
        "control": "random_reward",
        "prompts_per_step": form.prompts,
        "group_size": GROUP_SIZE,
        "max_response_tokens": form.max_tokens,
        "minibatches": MINIBATCHES,
        "lr": LR,
        "warmup_steps": 0,
        "steps": NEVER,
        "eval_every": NEVER,
        "checkpoint_every": NEVER,
        "record_rollouts": "none",
    }


def drawn_prompts(config: Config, policy: Policy, steps: int) -> list[list[str]]:
    """The prompts that each step of a run draws by itself."""
    task, asked, split = make_task(config, policy), config.rollout.prompts_per_step, TRAINED_ON["report"]
    draws = [task.draw_problems(split, asked, stream(config.run.seed, "data", step, 0), set()) for step in range(steps)]
    return [[problem.prompt for problem in drawn] for drawn in draws]


def check_prompts(ours: list[Step], theirs: list[Step]) -> None:
    """Raise HarnessError unless both read as many tokens of prompts in every step."""
    read, read_by_trl = ([step["prompt_tokens"] for step in steps] for steps in (ours, theirs))
    if read != read_by_trl:
        raise HarnessError(f"expected TRL to be asked the same, got prompts of {read_by_trl} tokens beside our {read}")


def in_turn(commands: list[list[str]], steps: int) -> list[list[Step]]:
    """The answers of one child per command, which take their steps one after the other."""
    with ExitStack() as stack:
        children = [stack.enter_context(child(command)) for command in commands]
        turns = [[step_of(one) for one in children] for _ in range(steps)]
        return [list(answers) for answers in zip(*turns, strict=True)]


@contextmanager
def child(command: list[str]) -> Iterator[Child]:
    """A process that takes one step for each line of input and answers with one of JSON."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, bufsize=1, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def step_of(process: Child) -> Step:
    """A child's next answer. Raises HarnessError where it has ended; its own words are on the terminal."""
    assert process.stdin
    assert process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write("\n")
    for line in process.stdout:
        if line.startswith('{"'):
            answer: Step = json.loads(line)
            return answer
    raise HarnessError(f"expected a step's answer of {process.args!r}, got its end: see its message above")
