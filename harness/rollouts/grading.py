"""The grades of sampled responses."""

from collections.abc import Sequence

from harness.model.policy import Policy
from harness.rollouts.sampler import Sample
from harness.tasks.task import Grade, Problem, Task

TRUNCATED = Grade("wrong", None, "truncated")


def read_samples(
    policy: Policy, task: Task, problems: Sequence[Problem], samples: Sequence[Sample]
) -> list[tuple[str, Grade]]:
    """Each sample's text and grade; one cut at the token limit gives no answer, whatever stands in it."""
    texts = [policy.decode(one.tokens) for one in samples]
    complete = [
        (problem, text) for problem, text, sample in zip(problems, texts, samples, strict=True) if not sample.truncated
    ]
    grades = iter(task.grade(complete))
    return [
        (text, TRUNCATED if sample.truncated else next(grades)) for text, sample in zip(texts, samples, strict=True)
    ]
