"""What draws responses: the Protocol of a rollout engine, and the engine that is the trainer's own model."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from harness.backends.phases import progress
from harness.backends.ranks import ALONE, Ranks
from harness.model.policy import Policy
from harness.model.rope import copy_rope
from harness.randomness import uniforms
from harness.rollouts.sampler import Sample, Sampling, sample

Key = tuple[int | str, ...]  # of the random stream of one response
Weights = Iterable[tuple[str, Tensor]]


class Engine(Protocol):
    """Draws responses. What it draws for a request depends on its key and the weights, never on other requests."""

    needs_weights: bool  # whether it has weights of its own, which a sync must bring

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """`len(keys) / len(prompts)` responses to each prompt, prompt by prompt."""

    def load_weights(self, weights: Weights) -> None:
        """Take over the trainer's weights, named as in a transformers folder, and forget what was computed before."""

    def sleep(self) -> None:
        """Give the device's memory back while the trainer works."""

    def wake(self) -> None:
        """Take it again."""

    def close(self) -> None:
        """End for good."""


@dataclass
class TorchEngine:
    """The sampler on a policy: the trainer's own, or a whole copy where ranks hold parts of it."""

    policy: Policy
    needs_weights: bool = False

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """One uniform number per token."""
        return sample(self.policy, list(prompts), uniforms(keys, sampling.max_tokens), sampling)

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        """Copy them into the model."""
        own = dict(self.policy.model.named_parameters()) | dict(self.policy.model.named_buffers())
        for name, tensor in weights:
            own[name].copy_(tensor)

    def sleep(self) -> None:
        """Nothing: the weights are the trainer's."""

    def wake(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def own_engine(policy: Policy, is_gpu: bool) -> TorchEngine:
    """A whole model of the policy's kind, without adapters, that draws once it has been given weights."""
    with torch.random.fork_rng(devices=[]):
        model = type(policy.model)(copy.deepcopy(policy.model.config))
    copy_rope(policy.model, model)
    device = "cuda" if is_gpu else policy.device
    return TorchEngine(replace(policy, model=model.to(device, policy.model.dtype).eval()), needs_weights=True)


@dataclass(frozen=True)
class Actors:
    """The ranks' engines, of which this process has one: each answers its share of the prompts."""

    engine: Engine
    ranks: Ranks = ALONE

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """By this rank's engine alone."""
        progress()
        return self.engine.generate(prompts, keys, sampling) if prompts else []
