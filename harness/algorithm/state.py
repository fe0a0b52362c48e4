"""The state of a run between two steps, and the functions that build it from the config."""

from dataclasses import dataclass

import torch

from harness.algorithm.metrics import Ledger, Stopwatch
from harness.algorithm.noise import Noise
from harness.algorithm.update import Updater
from harness.backends.backend import Backend
from harness.backends.ranks import ALONE, Ranks
from harness.backends.torch_backend import torch_backend
from harness.config.schema import Config
from harness.errors import UsageError
from harness.model.checkpointing import enable_checkpointing
from harness.model.policy import Policy
from harness.rollouts.engine import Engine, SamplerContext, TorchEngine, own_engine
from harness.tasks.drawn import drawn_task
from harness.tasks.math.task import MathData, math_task, read_data
from harness.tasks.own_files import own_files
from harness.tasks.rewards import Rewards, rewards_of
from harness.tasks.task import Task
from harness.tasks.tiny import DEMONSTRATED
from losses import LOSSES, Loss


@dataclass
class Training:
    """Everything that changes as a run proceeds."""

    policy: Policy
    task: Task
    reference: Policy | None  # the initial policy, if the loss needs it
    updater: Updater
    engine: Engine
    ledger: Ledger
    watch: Stopwatch
    rewards: Rewards
    noise: Noise | None = None
    steps_done: int = 0
    first_step: int = 0  # steps done before the run, with --start_from: where its draws begin
    has_learned: bool = False  # whether any step so far had something to learn from
    idle_reason: str = ""  # likeliest reason why no step so far had anything to learn from
    sampler_checked: bool = False  # whether this process has compared the sampler with the trainer

    @property
    def ranks(self) -> Ranks:
        return self.updater.backend.ranks

    @property
    def is_exact(self) -> bool:
        """Whether passes with and without gradients were found to agree in every bit, and the sampler with them."""
        return self.sampler_checked and self.noise is not None and self.noise.ratio == 0

    def sampler_context(self, config: Config) -> SamplerContext:
        return SamplerContext(self.policy, self.task, config, self.engine, self.ranks, self.rewards, self.first_step)


def begin(
    config: Config, policy: Policy, reference: Policy | None, ranks: Ranks = ALONE, task: Task | None = None
) -> Training:
    """A run before its first step; creates the task unless it is given."""
    task = task or make_task(config, policy)
    ledger = make_ledger(config, policy)
    engine = make_engine(config, policy, ranks)  # before the backend, which may partition the policy's weights
    engine.sleep()  # make room for the trainer
    move_to_gpu(config, policy, reference)
    updater = make_updater(config, policy, ranks)
    rewards = rewards_of(config.task.reward)
    return Training(policy, task, reference, updater, engine, ledger, Stopwatch(), rewards)


def check_task(config: Config) -> None:
    """Raise UsageError, before anything starts, if the model cannot do the task or the user's files cannot be used."""
    if config.model.model == "tiny" and not config.task.is_demonstrated:
        raise UsageError(
            f"--task {config.task.task} needs --model, got 'tiny', which can only do {', '.join(DEMONSTRATED)}: "
            "name a model"
        )
    rewards_of(config.task.reward)
    own_files(config)


def make_task(config: Config, policy: Policy, data: MathData | None = None) -> Task:
    """The task, with prompts formatted for the policy's tokenizer. Reads the data files unless `data` is given."""
    if config.task.is_demonstrated:
        return DEMONSTRATED[config.task.task]
    if config.task.task == "math":
        return math_task(data or read_data(config.data), config.data, policy)
    return drawn_task(config, policy)


def on_gpu(config: Config) -> bool:
    return config.model.device == "auto" and torch.cuda.is_available()


def is_partitioned(config: Config) -> bool:
    """Whether each rank holds only a part of the weights."""
    return config.backend.backend == "deepspeed" and config.backend.zero_stage == 3


def move_to_gpu(config: Config, policy: Policy, reference: Policy | None) -> None:
    """Move what is whole there to the GPU, if there is one; partitioned weights are moved one by one by the backend."""
    if on_gpu(config):
        for one in (None if is_partitioned(config) else policy, reference):
            if one is not None:
                one.model.cuda()


def make_engine(config: Config, policy: Policy, ranks: Ranks = ALONE) -> Engine:
    if config.engine.engine == "vllm":
        from harness.rollouts.vllm_engine import VllmEngine

        group = ranks.neighbours(config.engine.rollout_tp, config.backend.phase_deadline_s)
        return VllmEngine.start(policy, config, on_gpu(config), group)
    return own_engine(policy, on_gpu(config)) if is_partitioned(config) else TorchEngine(policy)


def make_updater(config: Config, policy: Policy, ranks: Ranks = ALONE) -> Updater:
    return Updater(make_backend(config, policy, ranks), make_loss(config), config)


def make_backend(config: Config, policy: Policy, ranks: Ranks) -> Backend:
    if config.model.gradient_checkpointing:
        enable_checkpointing(policy.model)
    if config.backend.backend == "deepspeed":
        from harness.backends.deepspeed_backend import deepspeed_backend

        return deepspeed_backend(policy, config, ranks, on_gpu(config))
    return torch_backend(policy, config.optimizer, config.updates_per_rollout)


def make_loss(config: Config) -> Loss:
    return LOSSES[config.loss.loss_type](**config.loss.loss_fields())


def make_ledger(config: Config, policy: Policy) -> Ledger:
    """A ledger with the number of forward passes and the backward FLOPs that follow from the config."""
    parameters = sum(p.numel() for p in policy.model.parameters())
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    backward = 2.0 * (parameters + trained)  # gradients of every layer's inputs, and of trained weights
    return Ledger(parameters, config.optimizer.epochs, config.forwards_per_token, backward / parameters)
