import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.algorithm.batching import MicroBatch
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.metrics import Metrics
from harness.algorithm.noise import Noise, checked_noise
from harness.algorithm.nonfinite import NonFinite
from harness.algorithm.state import begin, make_updater
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.errors import HarnessError
from harness.loop import run_step
from harness.model.policy import Policy, load_policy
from harness.run.record import NullRunFolder
from tests.harness.algorithm.steps import one_minibatch, planned
from tests.harness.tiny import SCAFFOLD, direct_answers, small_config

Known = list[list[KnownLogprobs]]


def found(policy: Policy, minibatches: list[list[MicroBatch]], known: Known, **changes: object) -> Noise:
    config = small_config(loss_type="fipo", delta=10.0, **changes)
    return checked_noise(make_updater(config, policy), minibatches, known)


def shifted(known: Known, shift: float) -> Known:
    """Old log-probabilities lower by the shift."""
    return [[dataclasses.replace(one, old=one.old - shift) for one in minibatch] for minibatch in known]


def test_the_largest_distances_from_1_are_found(random_policy: Policy) -> None:
    minibatches = planned(random_policy)
    known = shifted(known_logprobs(random_policy, None, minibatches, 1.0), 2.0**-10)
    noise = found(random_policy, minibatches, known, noise_tolerance=1.0)
    longest = max(len(response.tokens) for part in minibatches for batch in part for response in batch.responses)
    gamma = 2 ** (-1 / 32)
    future = 2.0**-10 * (1 - gamma**longest) / (1 - gamma)
    assert noise.ratio == pytest.approx(torch.tensor(2.0**-10).expm1().item(), rel=1e-3)
    assert noise.influence_weight == pytest.approx(torch.tensor(future).expm1().item(), rel=1e-3)


def test_noise_above_the_tolerance_stops_the_run(random_policy: Policy) -> None:
    minibatches = planned(random_policy)
    known = shifted(known_logprobs(random_policy, None, minibatches, 1.0), 1e-4)
    with pytest.raises(HarnessError, match=r"within 0 of 1.*kernels or micro-batches.*--noise_tolerance") as raised:
        found(random_policy, minibatches, known)
    assert "\n" not in str(raised.value)
    found(random_policy, minibatches, known, noise_tolerance=0.1)


def test_noise_that_is_no_number_is_refused_by_the_update(random_policy: Policy) -> None:
    policy, minibatches = random_policy.copy(), planned(random_policy)
    known = shifted(known_logprobs(policy, None, minibatches, 1.0), float("nan"))
    assert found(policy, minibatches, known) is None
    updater = make_updater(small_config(), policy)
    with pytest.raises(NonFinite, match="got nan in the loss"):
        updater.step(minibatches[0], known[0], LossRecord(metric_names(updater.loss)))
    assert all(map(torch.equal, policy.model.parameters(), random_policy.model.parameters()))


def test_other_micro_batches_in_bfloat16_are_named(model_folder: str) -> None:
    policy = load_policy(model_folder, "bfloat16")
    minibatches = planned(policy)
    alone = known_logprobs(policy, None, planned(policy, micro_batch_size=1), 1.0)
    width = [minibatch[0].tokens.mask.shape[1] for minibatch in minibatches]
    known = [
        [KnownLogprobs(torch.cat([torch.nn.functional.pad(k.old, (0, w - k.old.shape[1])) for k in part]), None)]
        for part, w in zip(alone, width, strict=True)
    ]
    with pytest.raises(HarnessError, match="bfloat16 rounds differently in batches of other shapes"):
        found(policy, minibatches, known)


def test_it_is_measured_on_what_is_trained(random_policy: Policy) -> None:
    """A micro-batch of cut responses alone has no token to measure on; a step of such has no noise yet."""
    flags = {"overlong_filter": True, "micro_batch_size": 1}
    minibatch = one_minibatch(random_policy, **flags)
    (known,) = known_logprobs(random_policy, None, [minibatch], 1.0)
    assert found(random_policy, [minibatch], [known], **flags) == Noise(0.0, 0.0)
    cut = [index for index, batch in enumerate(minibatch) if not batch.tokens.mask.any()]
    assert cut
    empty = [[minibatch[index] for index in cut]], [[known[index] for index in cut]]
    assert found(random_policy, *empty, **flags) is None


def two_steps(tmp_path: Path, is_left_to_update: bool, **changes: Any) -> tuple[int, Metrics]:
    """How many passes over whole texts the second step takes, and its metrics."""
    changes |= {"dynamic_sampling": False, "micro_batch_size": 4}
    config, policy = small_config(**SCAFFOLD | changes), direct_answers().copy()
    training = begin(config, policy, policy.copy() if config.loss.needs_reference else None)
    passes: list[None] = []
    for step in range(2):
        assert training.is_exact == (step == 1)
        training.steps_done = step
        training.sampler_checked = training.sampler_checked and is_left_to_update
        passes.clear()
        with policy.model.base_model.register_forward_hook(lambda *_: passes.append(None)):
            found = run_step(config, training, NullRunFolder(tmp_path))
    return len(passes), {name: value for name, value in found.items() if not name.startswith("time/")}


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "grpo", "beta": 0.1},
        {"loss_type": "fipo", "placebo": "shuffle_batch"},
        {"loss_type": "dapo", "sequence_filter": True},
    ],
    ids=lambda changes: changes["loss_type"],
)
def test_without_noise_the_first_update_gives_its_old_log_probabilities(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    (fewer, found), (passes, expected) = (two_steps(tmp_path, each, **changes) for each in (True, False))
    assert passes - fewer == 2  # micro-batches of the first of 2 minibatches: 8 responses, 4 at a time
    assert found == expected
    assert found["loss/kl_to_old"] != 0
