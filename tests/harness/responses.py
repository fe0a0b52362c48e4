"""Responses written by hand."""

from harness.model.policy import Policy
from harness.rollouts.collect import Group, Response
from harness.run.tiny_model import END
from harness.tasks.task import Grade, Problem


def response(policy: Policy, problem: Problem, text: str, reward: float = 1.0, sample: int = 0) -> Response:
    """A scored response whose text may hold the end token."""
    tokens = policy.encode(text)
    return Response(
        problem=problem,
        step=0,
        sample=sample,
        round=0,
        prompt_tokens=policy.encode(problem.prompt),
        tokens=tokens,
        text=policy.decode(tokens),
        entropy_sum=0.0,
        sampler_logprobs=[0.0] * len(tokens),
        truncated=not text.endswith(END),
        grade=Grade("right" if reward > 0 else "wrong"),
        score=reward,
        reward=reward,
    )


def group(policy: Policy, problem: Problem, texts: list[str], rewards: list[float]) -> Group:
    """The responses to one prompt."""
    return [
        response(policy, problem, text, reward, sample)
        for sample, (text, reward) in enumerate(zip(texts, rewards, strict=True))
    ]


def four_groups(policy: Policy) -> list[Group]:
    """Four prompts with four responses each, of 1 to 20 tokens, in each group right and wrong."""
    texts = ["#1$", "a2b4=1c3=4#4$", "$", "a2=2b4=1c3=4?a2b4c3=4#4", "#$", "a2b4c3=3#3$", "a2b4"]
    prompts = ["a2b4c3:", "a1b1c1d1e1f1:", "a0b0:", "a3b4c3d1:"]
    rewards = [1.0, -1.0, 1.0, -1.5]
    return [
        group(policy, Problem(prompt, "4"), [texts[(3 * index + j) % 7] for j in range(4)], rewards)
        for index, prompt in enumerate(prompts)
    ]
