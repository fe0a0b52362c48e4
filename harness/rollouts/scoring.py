"""Draws, grades and rewards responses: correctness, own rewards, the overlong penalty, the random-reward control."""

from collections.abc import Sequence

from harness.backends.phases import enter, own
from harness.config.task import TaskSettings
from harness.console import doing
from harness.model.policy import Policy
from harness.randomness import stream
from harness.rollouts.engine import Key, SamplerContext
from harness.rollouts.sampler import Sample, Sampling
from harness.tasks.rewards import Rewards
from harness.tasks.task import Grade, Problem, Task

Graded = tuple[Problem, int, Sample, str, Grade]  # with the number among the problem's responses, and the text
RIGHT = 1.0  # DAPO eq. 7
TRUNCATED = Grade("wrong", None, "truncated")


def graded_responses(
    context: SamplerContext, problems: Sequence[Problem], count: int, key: Key, sampling: Sampling
) -> list[Graded]:
    """`count` responses to each problem, problem by problem; response j is keyed by (*key, prompt id, j)."""
    asked = [(problem, j) for problem in problems for j in range(count)]
    prompts = [context.policy.encode(problem.prompt) for problem in problems]
    drawn = context.engine.generate(prompts, [(*key, problem.prompt_id, j) for problem, j in asked], sampling)
    phase = own.phase
    enter("reward")
    doing(f"scoring {len(drawn):,} responses")
    read = grade_samples(context.policy, context.task, [problem for problem, _ in asked], drawn)
    enter(phase)
    return [(*one, sample, *graded) for one, sample, graded in zip(asked, drawn, read, strict=True)]


def grade_samples(
    policy: Policy, task: Task, problems: Sequence[Problem], samples: Sequence[Sample]
) -> list[tuple[str, Grade]]:
    """Each sample's text and grade. A sample that was cut at the token limit is always wrong."""
    texts = [policy.decode(one.tokens) for one in samples]
    complete = [
        (problem, text) for problem, text, sample in zip(problems, texts, samples, strict=True) if not sample.truncated
    ]
    grades = iter(task.grade(complete))
    return [
        (text, TRUNCATED if sample.truncated else next(grades)) for text, sample in zip(texts, samples, strict=True)
    ]


def rewarded(
    rewards: Rewards, problem: Problem, response: tuple[str, Grade], settings: TaskSettings, key: Sequence[int | str]
) -> tuple[float, dict[str, float]]:
    """The response's score and, under --reward, each reward by name.

    response: text and grade. key: as `score` takes it. Raises HarnessError if a function of --reward fails.
    """
    text, grade = response
    correct = score(grade.outcome == "right", settings, *key)
    if settings.reward is None or settings.control == "random_reward":
        return correct, {}
    parts = rewards.parts(problem.prompt, text, problem.answer, correct)
    return rewards.total(parts), parts


def score(correct: bool, settings: TaskSettings, *key: int | str) -> float:
    """+1 for a right answer, `wrong_reward` for a wrong one (DAPO eq. 7: -1).

    Under the control `random_reward` a coin toss decides, keyed by (seed, step, prompt, sample).
    """
    if settings.control == "random_reward":
        correct = bool(stream("random reward", *key).random() < 0.5)
    return RIGHT if correct else settings.wrong_reward


def overlong_penalty(response_tokens: int, max_response_tokens: int, settings: TaskSettings) -> float:
    """0 below the buffer, then falling linearly to -overlong_factor at the limit (DAPO eq. 13); 0 without a buffer."""
    if settings.overlong_buffer is None:
        return 0.0
    over = response_tokens - (max_response_tokens - settings.overlong_buffer)
    return min(-over / settings.overlong_buffer * settings.overlong_factor, 0.0)
