"""The direction that a training step should have: the gradient of accuracy itself, estimated on fresh responses.

For P prompts of the training split with K responses each, of which r_i is 1 for a right one and 0 otherwise,

    grad J  ~  1/(P K)  sum_i  (r_i - mean of r over the prompt's other responses)  sum_t grad log pi(y_it)

which is unbiased for the gradient of the expected accuracy: a response's baseline does not depend on that response
(Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"). Two independent estimates are made: their inner
product is unbiased for the squared norm, and from their cosine c follows that of the true gradient to their mean,
sqrt(2 c / (1 + c)), the ceiling of any other direction's.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.errors import UsageError
from harness.microscope.values import Completion, completions
from harness.model.packing import pack_batch
from harness.randomness import stream
from harness.rollouts.engine import Key, SamplerContext
from harness.tasks.task import TRAINED_ON, Problem

Direction = list[Tensor]  # shaped as the trained parameters


@dataclass(frozen=True)
class Reference:
    """Two independent estimates of the gradient of -accuracy, which a loss should descend."""

    halves: tuple[Direction, Direction]
    accuracy: float  # of the fresh responses

    @cached_property
    def products(self) -> tuple[float, float, float]:
        """The halves' squared norms and their inner product, unbiased for the squared norm of the true gradient."""
        first, second = self.halves
        return dot(first, first), dot(second, second), dot(first, second)

    def compared(self, gradient: Sequence[Tensor | None], norm: float) -> dict[str, float | None]:
        """A loss's gradient of this norm beside the mean of the halves; None for what is not finite."""
        first, second, both = self.products
        projection = ratio(sum(dot(gradient, half) for half in self.halves) / 2, norm)
        found = {
            "norm": norm,
            "cosine": ratio(projection, sqrt(max(0.0, first + second + 2 * both)) / 2),
            "projection": projection,
            "halves_cosine": ratio(both, sqrt(first) * sqrt(second)),
            "accuracy": self.accuracy,
        }
        return {name: finite(value) for name, value in found.items()}


def reference(context: SamplerContext, prompts: int, samples: int, key: Key) -> Reference:
    """Both estimates, each from `prompts` training prompts with `samples` responses; `key`: of the random numbers."""
    halves, rights = [], []
    for number in range(2):
        own: Key = (*key, "direction", number)
        problems = fresh_problems(context, prompts, own)
        groups = list(completions(context, [(problem, ()) for problem in problems], samples, own))
        right = np.array([[is_right for _, is_right in group] for group in groups], dtype=float)
        halves.append(accuracy_gradient(context, problems, groups, leave_one_out(right) / right.size))
        rights.append(right.mean())
    return Reference((halves[0], halves[1]), float(np.mean(rights)))


def fresh_problems(context: SamplerContext, count: int, key: Key) -> list[Problem]:
    """Training problems, drawn without regard to any others. Raises UsageError if the task has fewer."""
    problems: list[Problem] = []
    with suppress(UsageError):
        split = TRAINED_ON[context.config.evaluation.eval_split]
        problems = context.task.draw_problems(split, count, stream(*key, "prompts"), set())
    if len(problems) < count:
        raise UsageError(f"--responses: expected {count} training prompts for each estimate, got fewer: lower it")
    return problems


def leave_one_out(right: Float[np.ndarray, "*prompt sample"]) -> Float[np.ndarray, "*prompt sample"]:
    """Each response's advantage over the mean of the prompt's other responses."""
    count = right.shape[-1]
    advantages: np.ndarray = (right - right.mean(axis=-1, keepdims=True)) * count / (count - 1)
    return advantages


def accuracy_gradient(
    context: SamplerContext,
    problems: Sequence[Problem],
    groups: Sequence[Sequence[Completion]],
    weights: Float[np.ndarray, "prompt sample"],
) -> Direction:
    """The gradient of -(sum over responses of weight times log-probability), a minibatch's responses at a time."""
    policy, config = context.policy, context.config
    asked = [problem for problem, group in zip(problems, groups, strict=True) for _ in group]
    rows = list(zip(asked, [sample for group in groups for sample, _ in group], weights.ravel(), strict=True))
    parameters = trained(policy.model)
    total = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
    size = responses_at_a_time(context, problems)
    rows = [row for row in rows if row[2]]
    for batch in (rows[start : start + size] for start in range(0, len(rows), size)):
        prompts = [policy.encode(problem.prompt) for problem, _, _ in batch]
        packed = pack_batch(prompts, [sample.tokens for _, sample, _ in batch], policy.device)
        logprobs, _ = policy.logprobs(packed, config.rollout.temperature)
        factors = torch.tensor([weight for _, _, weight in batch], dtype=logprobs.dtype, device=policy.device)
        parts = torch.autograd.grad(-(logprobs.sum(dim=1) * factors).sum(), parameters, allow_unused=True)
        for sum_, part in zip(total, parts, strict=True):
            if part is not None:
                sum_ += part
    return total


def responses_at_a_time(context: SamplerContext, problems: Sequence[Problem]) -> int:
    """As many as a micro-batch of training has, all of them as long as they may be."""
    config, optimizer = context.config, context.config.optimizer
    if optimizer.micro_batch_tokens:
        prompt = max(len(context.policy.encode(problem.prompt)) for problem in problems)
        return max(1, optimizer.micro_batch_tokens // (prompt + config.rollout.max_response_tokens))
    return optimizer.micro_batch_size or -(-config.responses_per_step // optimizer.minibatches)


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def dot(a: Sequence[Tensor | None], b: Sequence[Tensor]) -> float:
    """The inner product over all parameters, in float64; None counts as 0."""
    products = (
        float(torch.dot(x.flatten().double(), y.flatten().double())) for x, y in zip(a, b, strict=True) if x is not None
    )
    return sum(products)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else nan


def finite(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if isfinite(value) else None
