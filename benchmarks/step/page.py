"""A whole training step on a CPU beside TRL's, each in a process of its own, in turn, and where our time goes."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import matrix_multiply_rate
from benchmarks.models import LARGER, random_policy
from benchmarks.table import TRL, Row
from harness.errors import HarnessError, UsageError
from harness.model.policy import write_policy
from harness.randomness import stream
from harness.tasks.chain_sum import CHAIN_SUMS
from harness.tasks.task import TRAINED_ON

ROOT = Path(__file__).resolve().parents[2]
OURS = [sys.executable, "-m", "benchmarks.step.own"]
THEIRS = [str(TRL / "bin" / "python"), "benchmarks/step/trl.py"]
GROUP_SIZE, MINIBATCHES = 8, 4
LR = 1e-6  # so small that weights, and with them lengths, stay what they were
SEED = 0  # of a run by default: with it both draw the same prompts
WARM = 2  # steps of each that are not counted

Step = dict[str, Any]  # a child's answer


@dataclass(frozen=True)
class Form:
    """A model, a batch and how long responses are."""

    name: str
    shape: dict[str, Any]
    prompts: int
    max_tokens: int
    is_free: bool  # whether the end token ends a response
    at_least: float  # times the peer's tokens per second
    steps: int  # that are counted


FORMS = (
    Form("tiny model, 64 tokens each", {}, 16, 64, False, 1.5, 9),
    Form("tiny model, lengths vary", {}, 16, 72, True, 3.0, 9),
    Form("1.06 M parameters, 64 tokens each", LARGER, 32, 64, False, 1.5, 5),
    Form("1.06 M parameters, lengths vary", LARGER, 32, 64, True, 3.0, 5),
)


def rows(forms: tuple[Form, ...] = FORMS) -> Iterator[Row]:
    """Every form's figures."""
    if not (TRL / ".ready").is_file():
        raise UsageError("expected TRL 1.16.0 in an environment of its own, found none: run make .venv-trl/.ready")
    for form in forms:
        print(f"training steps, {form.name}, {WARM + form.steps} of ours and of TRL's in turn ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            spec = write_spec(form, Path(folder))
            ours, theirs = in_turn([[*OURS, str(spec)], [*THEIRS, str(spec)]], WARM + form.steps)
        yield from beside(form, ours[WARM:], theirs[WARM:])
        yield from parts(form, ours[WARM:], matrix_multiply_rate())


def write_spec(form: Form, folder: Path) -> Path:
    """The file that tells both children the same: model, prompts step by step, sizes."""
    policy = random_policy(**form.shape)
    (folder / "model").mkdir()
    write_policy(folder / "model", policy)
    spec = {
        "model": str(folder / "model"),
        "prompts": [drawn_prompts(step, form.prompts) for step in range(WARM + form.steps)],
        "group_size": GROUP_SIZE,
        "minibatches": MINIBATCHES,
        "max_tokens": form.max_tokens,
        "lr": LR,
        "is_free": form.is_free,
        "end_ids": sorted(policy.end_ids),
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def drawn_prompts(step: int, count: int) -> list[str]:
    """The prompts that a run's step draws by itself."""
    task, generator = CHAIN_SUMS["graded_chain_sum"], stream(SEED, "data", step, 0)
    return [problem.prompt for problem in task.draw_problems(TRAINED_ON["report"], count, generator, set())]


def in_turn(commands: list[list[str]], steps: int) -> list[list[Step]]:
    """The answers of one child per command, which take their steps one after the other."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(command)) for command in commands]
        answers: list[list[Step]] = [[] for _ in children]
        for _ in range(steps):
            for child, answered in zip(children, answers, strict=True):
                answered.append(child.step())
        return answers


class Child:
    """A process that takes one step for each line of input and answers with one of JSON."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __enter__(self) -> "Child":
        surroundings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=surroundings,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        return self

    def step(self) -> Step:
        """The answer to one line. Raises HarnessError where the child has ended."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise HarnessError(self.last_words()) from None
        for line in self.process.stdout:
            if line.startswith('{"'):  # TRL prints lines of its own
                answer: Step = json.loads(line)
                return answer
        raise HarnessError(self.last_words())

    def last_words(self) -> str:
        """What to say of a child that ended early."""
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines() or ["nothing said"]
        return f"{' '.join(self.command[1:3])}: expected a step's answer, got its end: {said[-1]}"

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def beside(form: Form, ours: list[Step], theirs: list[Step]) -> Iterator[Row]:
    """Tokens per second of both, medians and the best step; and that they trained on about as many."""
    for clock, words, at_least in (("cpu_s", "CPU", form.at_least), ("wall_s", "wall", None)):
        rates = [[step["trained_tokens"] / step[clock] for step in steps] for steps in (ours, theirs)]
        middle, best = [statistics.median(one) for one in rates], [max(one) for one in rates]
        figure = f"{form.name}: trained tokens per {words} second"
        yield Row(f"{figure}, median", middle[0], "", at_least=at_least, peer=middle[1])
        yield Row(f"{figure}, best step", best[0], "", peer=best[1])
    responses = form.prompts * GROUP_SIZE
    lengths = [sum(step["trained_tokens"] for step in steps) / len(steps) / responses for steps in (ours, theirs)]
    yield Row(f"{form.name}: tokens per response", lengths[0], "", peer=lengths[1])


def parts(form: Form, steps: list[Step], rate: float) -> Iterator[Row]:
    """Where our time goes, and at which share (the ratio) of the machine's rate the needed arithmetic is done."""
    whole = sum(step["cpu_s"] for step in steps)
    for part in steps[0]["parts"]:
        spent = sum(step["parts"][part] for step in steps)
        yield Row(f"{form.name}: {part}, share of the CPU time", 100 * spent / whole, "%")
    for part in steps[0]["flops"]:
        done = statistics.median(step["flops"][part] / step["parts"][part] for step in steps)
        yield Row(f"{form.name}: {part}, beside matrix products", done / 1e9, "GFLOP/s", floor=rate / 1e9)
