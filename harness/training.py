"""A run between two steps: what the next step needs besides the config."""

from dataclasses import dataclass

from harness.config import Config
from harness.metrics import Ledger, Stopwatch
from harness.noise import Noise
from harness.policy import Policy
from harness.update import Updater, make_optimizer
from losses import LOSSES, Loss


@dataclass
class Training:
    """All that changes as a run goes on."""

    policy: Policy
    reference: Policy | None  # the initial policy, where beta > 0
    updater: Updater
    ledger: Ledger
    watch: Stopwatch
    noise: Noise | None = None
    steps_done: int = 0


def begin(config: Config, policy: Policy, reference: Policy | None) -> Training:
    """A run before its first step."""
    return Training(policy, reference, make_updater(config, policy), make_ledger(config, policy), Stopwatch())


def make_updater(config: Config, policy: Policy) -> Updater:
    """Loss, optimizer and schedule as the config says."""
    optimizer, schedule = make_optimizer(policy, config.optimizer, config.updates_per_rollout)
    return Updater(policy, make_loss(config), optimizer, schedule, config)


def make_loss(config: Config) -> Loss:
    """The per-token formula."""
    return LOSSES[config.loss.loss_type](**config.loss.loss_fields())


def make_ledger(config: Config, policy: Policy) -> Ledger:
    """A ledger that knows what the config's steps compute."""
    epochs = config.optimizer.epochs
    forwards = 1 + (config.loss.beta > 0) + (epochs if config.loss.sequence_filter else 0)
    return Ledger(sum(p.numel() for p in policy.model.parameters()), epochs, forwards)
