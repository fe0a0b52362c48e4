"""Controls of token credit, which move a wrong response's negative advantage to certain tokens, with the task's help.

blame         only on the first wrong step, 0 elsewhere: credit that no published loss assigns
damp          the same sum, spread evenly over the response: measures how much of blame's gain comes from damping
random_blame  the same sum, on a random step: measures how much comes from making negative advantages sparse
"""

from typing import Literal

from harness.model.policy import Policy
from harness.randomness import stream
from harness.rollouts.collect import Response
from harness.tasks.task import Task

CreditControl = Literal["blame", "damp", "random_blame"]
CREDIT_CONTROLS: tuple[CreditControl, ...] = ("blame", "damp", "random_blame")
Span = tuple[int, int]  # characters [start, end) of the response's text


def credited(
    response: Response, advantage: float, control: CreditControl, where: tuple[Policy, Task, int]
) -> list[float]:
    """The negative advantage of each token under the control; `where` is (policy, task, the run's seed).

    All three give a response the same sum of advantages, that of its first wrong step; it is 0 if every step is right.
    The random step is drawn from the stream (seed, "random_blame", step, prompt, sample), so it is the same in every
    process.
    """
    policy, task, seed = where
    ends = policy.token_ends(response.tokens)
    blamed = tokens_of(task.first_wrong_step(response.problem, response.text), ends)
    if control == "blame":
        return [advantage if it else 0.0 for it in blamed]
    total = advantage * sum(blamed)
    if control == "damp":
        return [total / len(blamed)] * len(blamed)
    chosen = tokens_of(random_step(task.steps(response.text), seed, response), ends)
    count = sum(chosen)
    return [total / count if it else 0.0 for it in chosen] if count else [0.0] * len(chosen)


def random_step(steps: list[Span], seed: int, response: Response) -> Span | None:
    """A random step of the response; None if it has no steps."""
    if not steps:
        return None
    draw = stream(seed, "random_blame", response.step, *response.key)
    return steps[int(draw.integers(len(steps)))]


def tokens_of(span: Span | None, ends: list[int]) -> list[bool]:
    """Whether each token overlaps the span; `ends` are the character offsets at which the tokens end.

    The end token has no characters, and belongs to the step at whose end it stands.
    """
    if span is None:
        return [False] * len(ends)
    starts = [0, *ends[:-1]]
    return [
        (start < span[1] and end > span[0]) or start == end == span[1] for start, end in zip(starts, ends, strict=True)
    ]
