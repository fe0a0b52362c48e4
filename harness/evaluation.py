"""Answers to held-out prompts: the same prompts in every run of a task, whatever its seed."""

from dataclasses import dataclass
from functools import lru_cache

from harness.chain_sum import TASKS
from harness.config import Config
from harness.engine import Actors, Key, TorchEngine
from harness.grades import Outcome
from harness.grading import read_samples
from harness.policy import Policy
from harness.randomness import stream
from harness.sampler import Sampling
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


def evaluate(policy: Policy, config: Config, step: int, samples: int, actors: Actors | None = None) -> list[Answer]:
    """`samples` answers to each held-out prompt, by default drawn by the policy itself; on every rank those of all."""
    settings = config.evaluation
    problems = held_out_problems(config.task.task, settings.eval_prompts, settings.eval_split)
    actors = actors or Actors(TorchEngine(policy))
    own = actors.ranks.share(problems)
    size = max(1, config.responses_per_step // samples)  # prompts at a time: about as many answers as a training round
    answered: list[list[Answer]] = []
    for start in range(0, len(own), size):
        answered += answers_to(own[start : start + size], policy, actors, config, (step, samples))
    return [answer for answers in actors.ranks.merged(answered) for answer in answers]


def answers_to(
    problems: list[Problem], policy: Policy, actors: Actors, config: Config, asked: tuple[int, int]
) -> list[list[Answer]]:
    """The answers to each of these problems; `asked` is after how many steps, and how many answers."""
    (step, samples), settings = asked, config.evaluation
    sampling = Sampling(config.rollout.max_response_tokens, settings.eval_temperature, settings.eval_top_p)
    questions = [(problem, j) for problem in problems for j in range(samples)]
    keys: list[Key] = [(config.run.seed, "eval", step, problem.prompt_id, j) for problem, j in questions]
    drawn = actors.generate([policy.encode(problem.prompt) for problem in problems], keys, sampling)
    read = read_samples(policy, TASKS[config.task.task], [problem for problem, _ in questions], drawn)
    answers = [
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
        for (problem, j), one, (text, grade) in zip(questions, drawn, read, strict=True)
    ]
    return [answers[start : start + samples] for start in range(0, len(answers), samples)]
