"""The trainer's weights in an engine of its own: the proof after a sync, and what fails it."""

from dataclasses import dataclass

import pytest
import torch

from harness.algorithm.state import Training, begin
from harness.algorithm.sync import sync
from harness.config.schema import Config
from harness.errors import HarnessError
from harness.model.policy import Policy
from harness.rollouts.engine import Actors, TorchEngine, Weights, own_engine
from tests.harness.tiny import small_config


@dataclass
class Stale(TorchEngine):
    """An engine as they have been seen: it says that it has loaded the weights, and leaves some out."""

    kept: str = ""  # the beginning of the names of tensors that stay as they were

    def load_weights(self, weights: Weights) -> None:
        super().load_weights((name, tensor) for name, tensor in weights if not name.startswith(self.kept))


@dataclass
class OldHead(TorchEngine):
    """An engine that unties its output head from the embedding, and then reloads the embedding alone."""

    def load_weights(self, weights: Weights) -> None:
        head = self.policy.model.lm_head
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        super().load_weights(weights)


@pytest.fixture
def config() -> Config:
    return small_config()


@pytest.fixture
def training(direct_policy: Policy, config: Config) -> Training:
    """A run whose weights have moved since its engine last saw them."""
    training = begin(config, direct_policy.copy(), None)
    engine = own_engine(training.policy, is_gpu=False)
    training.actors = Actors(engine)
    assert sync(training, config) is not None
    with torch.no_grad():
        for parameter in training.policy.model.parameters():
            parameter.mul_(1.05)
    return training


def test_an_engine_that_takes_the_weights_passes_and_the_trainers_own_model_needs_none(
    training: Training, direct_policy: Policy, config: Config
) -> None:
    gap = sync(training, config)
    assert gap is not None
    assert gap < 1e-5
    assert sync(begin(config, direct_policy.copy(), None), config) is None


@pytest.mark.parametrize("kept", ["", "model.layers.1", "model.norm", "head"])
def test_a_stale_or_half_loaded_engine_stops_the_run(training: Training, config: Config, kept: str) -> None:
    policy = training.actors.engine.policy  # type: ignore[attr-defined]
    assert policy.model.config.tie_word_embeddings
    stale = OldHead(policy, needs_weights=True) if kept == "head" else Stale(policy, needs_weights=True, kept=kept)
    training.actors = Actors(stale)
    with pytest.raises(HarnessError, match=r"the trainer's weights after step 0, got.*stale or half loaded"):
        sync(training, config)


def test_weights_that_are_no_numbers_stop_the_run(training: Training, config: Config) -> None:
    engine = training.actors.engine
    engine.load_weights((name, tensor * float("nan")) for name, tensor in training.updater.backend.weights())
    engine.load_weights = lambda _weights: None  # type: ignore[method-assign]
    with pytest.raises(HarnessError, match="got log-probabilities up to nan"):
        sync(training, config)
