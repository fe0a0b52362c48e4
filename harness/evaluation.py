"""Answers to held-out prompts: the same prompts in every run of a task, whatever its seed."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.chain_sum import TASKS
from harness.config import Config
from harness.grades import Outcome
from harness.grading import read_samples
from harness.policy import Policy
from harness.randomness import stream
from harness.sampler import Sampling, sample
from harness.task import Problem, Split, draw_distinct


@dataclass(frozen=True)
class Answer:
    """One answered held-out prompt."""

    step: int  # training steps done
    prompt_id: str
    sample: int
    text: str
    answer: str | None  # None where the response gives none
    correct: bool
    outcome: Outcome
    response_tokens: int
    truncated: bool


@lru_cache
def held_out_problems(task: str, count: int, split: Split = "report") -> tuple[Problem, ...]:
    """The task's evaluation prompts, disjoint by hash from every prompt trained on beside them."""
    key = "held-out prompts" if split == "report" else f"held-out prompts, {split}"
    return tuple(draw_distinct(TASKS[task], split, count, stream(key, task)))


def evaluate(policy: Policy, config: Config, step: int, samples: int) -> list[Answer]:
    """`samples` answers to each held-out prompt, in batches of about the size of a training round."""
    settings, limit = config.evaluation, config.rollout.max_response_tokens
    problems = held_out_problems(config.task.task, settings.eval_prompts, settings.eval_split)
    sampling = Sampling(limit, settings.eval_temperature, settings.eval_top_p)
    answers: list[Answer] = []
    size = max(1, config.responses_per_step // samples)
    for start in range(0, len(problems), size):
        chunk = problems[start : start + size]
        keys = [(problem, j) for problem in chunk for j in range(samples)]
        uniforms = np.stack([stream(config.run.seed, "eval", step, p.prompt_id, j).random(limit) for p, j in keys])
        drawn = sample(policy, [policy.encode(problem.prompt) for problem in chunk], uniforms, sampling)
        read = read_samples(policy, TASKS[config.task.task], [problem for problem, _ in keys], drawn)
        for (problem, j), one, (text, grade) in zip(keys, drawn, read, strict=True):
            answers.append(
                Answer(
                    step=step,
                    prompt_id=problem.prompt_id,
                    sample=j,
                    text=text,
                    answer=grade.answer,
                    correct=grade.outcome == "right",
                    outcome=grade.outcome,
                    response_tokens=len(one.tokens),
                    truncated=one.truncated,
                )
            )
    return answers
