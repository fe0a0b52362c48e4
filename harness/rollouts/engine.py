"""The interface of a rollout engine, our own engine on the trainer's model, and the context of sampling."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from harness.backends.phases import progress
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import Config
from harness.model.lora import plain_name
from harness.model.policy import Policy
from harness.randomness import uniforms
from harness.rollouts.sampler import Sample, Sampling, sample
from harness.tasks.rewards import Rewards
from harness.tasks.task import Task

Key = tuple[int | str, ...]  # key of one response's random stream
Weights = Iterable[tuple[str, Tensor]]


class Engine(Protocol):
    """Samples responses. A response depends on its prompt, its key and the weights, never on other requests.

    But on a GPU vLLM's rounding depends on how many there are, which may flip a token.
    """

    needs_weights: bool  # whether it has its own copy of the weights, which must be synchronized

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        """`len(keys) / len(prompts)` responses per prompt, prompt by prompt. Collective, if ranks share the engine."""

    def load_weights(self, weights: Weights) -> None:
        """Wake up with the trainer's weights, named as in a transformers folder, and without what older ones cached."""

    def sleep(self) -> None:
        """Release device memory while the trainer works, until `load_weights`."""

    def close(self) -> None:
        """Shut the engine down; it cannot be used afterwards."""


@dataclass
class TorchEngine:
    """Our own sampler, on the trainer's policy, or on a full copy if the ranks hold only parts of it."""

    policy: Policy
    needs_weights: bool = False

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        progress()
        return sample(self.policy, list(prompts), uniforms(keys, sampling.max_tokens), sampling) if prompts else []

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        own = dict(self.policy.model.named_parameters()) | dict(self.policy.model.named_buffers())
        for name, tensor in weights:
            own[name].copy_(tensor)

    def sleep(self) -> None:
        """Nothing: the trainer uses the same memory."""

    def close(self) -> None:
        """Nothing to shut down."""


def own_engine(policy: Policy, is_gpu: bool) -> TorchEngine:
    """An engine with its own model, without adapters. Call `load_weights` before sampling."""
    with torch.random.fork_rng(devices=[]):
        model = type(policy.model)(copy.deepcopy(policy.model.config)).to(policy.model.dtype)
    for name, module in policy.model.named_modules(remove_duplicate=False):
        if any(True for _ in module.buffers()) and not any(True for _ in module.parameters()):
            model.set_submodule(name, copy.deepcopy(module))  # rotary frequencies, float32 in every dtype
    for name, buffer in policy.model.named_buffers(remove_duplicate=False):  # some others are float32 too
        owner, _, key = plain_name(name).rpartition(".")
        setattr(model.get_submodule(owner), key, buffer.clone())
    return TorchEngine(replace(policy, model=model.to("cuda" if is_gpu else policy.device).eval()), needs_weights=True)


@dataclass(frozen=True)
class SamplerContext:
    """Policy, task, config, engine and rewards used to collect answers. A rank answers its share of the prompts."""

    policy: Policy
    task: Task
    config: Config
    engine: Engine
    ranks: Ranks = ALONE
    rewards: Rewards = field(default_factory=Rewards)
    first_step: int = 0  # added to a step in the keys of its draws; see `Training`
