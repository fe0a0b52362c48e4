"""Sampler against trainer: the proof that it has the weights, what is recorded, and the weight beside every loss."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from harness.algorithm.correction import SamplerGap, correction_weights
from harness.algorithm.state import Training, begin, make_updater
from harness.algorithm.sync import sync
from harness.algorithm.update import known_logprobs
from harness.config.schema import Config, EngineSettings
from harness.errors import HarnessError
from harness.model.policy import Policy
from harness.rollouts.engine import Key, TorchEngine, Weights, own_engine
from harness.rollouts.sampler import Sample, Sampling
from tests.harness.algorithm.steps import one_minibatch
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


@dataclass
class Coarse(TorchEngine):
    """An engine that rounds the first `tokens` log-probabilities of its first `answers` answers by `error` nats."""

    tokens: int = 0
    answers: int = 0
    error: float = 0.0

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        drawn = super().generate(prompts, keys, sampling)
        self.answers -= 1
        if self.answers < 0:
            return drawn
        return [
            dataclasses.replace(one, logprobs=[p + self.error * (t < self.tokens) for t, p in enumerate(one.logprobs)])
            for one in drawn
        ]


@pytest.fixture
def config() -> Config:
    return small_config()


@pytest.fixture
def training(direct_policy: Policy, config: Config) -> Training:
    """A run whose weights have moved since its engine last saw them."""
    training = begin(config, direct_policy.copy(), None)
    engine = own_engine(training.policy, is_gpu=False)
    training.engine = engine
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
    policy = training.engine.policy  # type: ignore[attr-defined]
    assert policy.model.config.tie_word_embeddings
    stale = OldHead(policy, needs_weights=True) if kept == "head" else Stale(policy, needs_weights=True, kept=kept)
    training.engine = stale
    with pytest.raises(HarnessError, match=r"the trainer's weights after step 0, got.*stale or half loaded"):
        sync(training, config)


def test_a_token_or_an_answer_that_rounding_moved_far_does_not_stop_the_run(training: Training) -> None:
    config = small_config(sync_tolerance=0.1, temperature=9.0)  # answers of many tokens
    policy = training.engine.policy  # type: ignore[attr-defined]
    training.engine = Coarse(policy, needs_weights=True, tokens=1, answers=2, error=0.2)
    gap = sync(training, config)
    assert gap is not None
    assert 0.0 < gap < 0.1
    training.engine = Coarse(policy, needs_weights=True, tokens=32, answers=1, error=0.2)
    assert sync(training, config) == pytest.approx(0.2, rel=1e-3)
    training.engine = Coarse(policy, needs_weights=True, tokens=32, answers=2, error=0.2)
    with pytest.raises(HarnessError, match=r"got log-probabilities 0\.2 and 0\.2 nats per token apart .* than 0\.1: "):
        sync(training, config)


def test_weights_that_are_no_numbers_stop_the_run(training: Training, config: Config) -> None:
    engine = training.engine
    engine.load_weights((name, tensor * float("nan")) for name, tensor in training.updater.backend.weights())
    engine.load_weights = lambda _weights: None  # type: ignore[method-assign]
    with pytest.raises(HarnessError, match="got log-probabilities nan and nan nats"):
        sync(training, config)


GAP = torch.tensor([[0.0, 0.5, 2.0], [-2.0, -0.5, 9.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def settings(kind: str) -> EngineSettings:
    return EngineSettings(engine="vllm", sampler_correction=kind, sampler_correction_cap=2.0)  # type: ignore[arg-type]


def test_weights_by_hand() -> None:
    half = float(torch.tensor(0.5).exp())
    assert correction_weights(GAP, MASK, settings("none")).tolist() == [[1, 1, 1], [1, 1, 1]]
    expected = torch.tensor([[1.0, half, 2.0], [0.1353353, 1 / half, 1.0]])
    assert torch.allclose(correction_weights(GAP, MASK, settings("truncate")), expected)
    expected = torch.tensor([[1.0, half, 0.0], [0.0, 1 / half, 1.0]])
    assert torch.allclose(correction_weights(GAP, MASK, settings("mask")), expected)
    gap = torch.full_like(GAP, torch.inf)  # padding of any value has a finite weight
    assert correction_weights(gap, torch.zeros_like(MASK), settings("truncate")).isfinite().all()


def test_what_is_recorded_by_hand() -> None:
    gap = SamplerGap()
    assert gap.metrics() == {"sampler/logprob_gap_mean": None, "sampler/logprob_gap_max": None, "sampler/kl": None}
    gap.add(GAP, MASK)
    found = gap.metrics()
    values = [0.0, 0.5, 2.0, -2.0, -0.5]
    assert found["sampler/logprob_gap_mean"] == pytest.approx(1.0)
    assert found["sampler/logprob_gap_max"] == 2.0
    k3 = sum(float(torch.tensor(value).double().exp()) - 1 - value for value in values) / 5
    assert found["sampler/kl"] == pytest.approx(k3)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "fipo"])
def test_it_multiplies_every_loss_alike(random_policy: Policy, loss_type: str) -> None:
    """A sampler that gave each token half the trainer's probability doubles the gradient, where the cap allows it."""
    plain: dict[str, Any] = {"loss_type": loss_type, "minibatches": 1, "allow_inert": True, "engine": "vllm"}
    norms = {}
    for kind, cap in (("none", 2.0), ("truncate", 4.0), ("truncate", 1.5), ("mask", 1.5)):
        config = small_config(**plain, sampler_correction=kind, sampler_correction_cap=cap)
        minibatch = one_minibatch(random_policy)
        (known,) = known_logprobs(random_policy, None, [minibatch], 1.0)
        drawn = [
            dataclasses.replace(batch, sampler_logprobs=one.old - torch.tensor(2.0).log())
            for batch, one in zip(minibatch, known, strict=True)
        ]
        norms[kind, cap] = float(make_updater(config, random_policy.copy()).gradient(drawn, known).norm)
    assert norms["truncate", 4.0] == pytest.approx(2 * norms["none", 2.0], rel=1e-5)
    assert norms["truncate", 1.5] == pytest.approx(1.5 * norms["none", 2.0], rel=1e-5)
    assert norms["mask", 1.5] == 0.0
