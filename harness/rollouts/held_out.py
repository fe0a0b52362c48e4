"""Evaluates on held-out prompts, which are the same in every run of a task, regardless of the seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.rollouts.engine import SamplerContext
from harness.rollouts.sampler import Sampling
from harness.rollouts.scoring import graded_responses
from harness.tasks.task import Outcome, Problem


@dataclass(frozen=True)
class Answer:
    """One answer to a held-out prompt."""

    step: int  # training steps done
    prompt_id: str
    sample: int
    text: str
    answer: str | None  # None if the response contains no answer
    correct: bool
    outcome: Outcome
    response_tokens: int
    truncated: bool
    correct_leniently: bool  # read as harness/tasks/math/answers.py says; `correct` for tasks with one reading


def evaluate(context: SamplerContext, step: int, samples: int) -> list[Answer]:
    """`samples` answers to each held-out prompt, from all ranks. Collective."""
    settings = context.config.evaluation
    problems = context.task.held_out(settings.eval_split, settings.eval_prompts)
    ranks = context.ranks
    own, most = ranks.share(problems), -(-len(problems) // ranks.world)  # a rank with fewer takes part all the same
    size = max(1, context.config.responses_per_step // samples)  # about as many answers at a time as in training
    answered: list[list[Answer]] = []
    for start in range(0, most, size):
        answered += answers_to(own[start : start + size], context, (step, samples))
    return [answer for answers in ranks.merged(answered, list[list[Answer]]) for answer in answers]


def answers_to(problems: Sequence[Problem], context: SamplerContext, asked: tuple[int, int]) -> list[list[Answer]]:
    """A list of answers for each problem; `asked` is (training steps done, answers per problem)."""
    (step, samples), config, settings = asked, context.config, context.config.evaluation
    sampling = Sampling(config.rollout.max_response_tokens, settings.eval_temperature, settings.eval_top_p)
    key = (config.run.seed, "eval", context.first_step + step)
    answers = [
        Answer(
            step=step,
            prompt_id=problem.prompt_id,
            sample=j,
            text=text,
            answer=grade.answer,
            correct=grade.outcome == "right",
            outcome=grade.outcome,
            response_tokens=len(drawn.tokens),
            truncated=drawn.truncated,
            correct_leniently=grade.is_right_leniently,
        )
        for problem, j, drawn, text, grade in graded_responses(context, problems, samples, key, sampling)
    ]
    return [answers[start : start + samples] for start in range(0, len(answers), samples)]
