"""The authors' sequence filter in an optimizer step: what it drops leaves numerator and denominator."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from harness.algorithm.loss_metrics import LossRecord
from harness.algorithm.state import make_ledger
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.model.policy import Policy
from harness.rollouts.collect import Rollouts
from losses import AVERAGING_MODES, LOSSES, sequence_filter
from tests.harness.agreement import agree
from tests.harness.algorithm.steps import one_minibatch, rows_of, stepped
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config

DELTA = 1.5


def lowered(known: KnownLogprobs) -> KnownLogprobs:
    """Old log-probabilities under which every other token of the second response to each prompt has a ratio of 2."""
    shift = torch.zeros_like(known.old)
    shift[1::4, ::2] = math.log(2.0)
    return dataclasses.replace(known, old=known.old - shift)


# the authors count the KL of a dropped response; here what is dropped is dropped, and takes no blame
@pytest.mark.parametrize(
    "settings",
    [
        *({"loss_type": loss, "averaging": averaging} for loss in LOSSES for averaging in AVERAGING_MODES),
        {"loss_type": "fipo", "averaging": "token_mean", "beta": 0.1},
        {"loss_type": "fipo", "averaging": "token_mean", "control": "blame"},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_a_step_is_that_of_the_kept_responses_alone(random_policy: Policy, settings: dict[str, Any]) -> None:
    (batch,) = one_minibatch(random_policy, **settings)
    ((plain,),) = known_logprobs(random_policy, random_policy if "beta" in settings else None, [[batch]], 1.0)
    known = lowered(plain)
    kept = sequence_filter(plain.old - known.old, batch.advantages, batch.tokens.mask, DELTA).any(dim=1)
    assert 0 < kept.sum() < len(kept)
    filtered, record = stepped(random_policy, [batch], [known], sequence_filter=True, delta=DELTA, **settings)
    part, part_known = rows_of(batch, known, kept.nonzero().squeeze(1))
    alone, _ = stepped(random_policy, [part], [part_known], delta=DELTA, **settings)
    assert agree(filtered, alone, "network")
    assert record.means()["filtered_responses"] == (~kept).double().mean().item()
    assert record.counts["token_loss"] == part.tokens.mask.sum().item()
    if settings["loss_type"] == "fipo":
        assert record.response_weights.keys() == {response.key for response in part.responses}


def test_the_ledger_counts_what_was_trained_and_every_pass(random_policy: Policy) -> None:
    groups = four_groups(random_policy)
    kept = [response for group in groups for response in group]
    record = LossRecord(["token_loss"], counts={"token_loss": 17.0})
    config = small_config(epochs=2, beta=0.1, sequence_filter=True, delta=DELTA)
    ledger, plain = make_ledger(config, random_policy), make_ledger(small_config(epochs=2), random_policy)
    for one in (ledger, plain):
        one.add(Rollouts([groups], groups, 0), record)
    assert ledger.trained_tokens == plain.trained_tokens == 17
    rows = sum(len(response.prompt_tokens) + len(response.tokens) for response in kept)
    # a pass for the reference, and one before each of the two epochs' updates for the filter
    assert ledger.flops - plain.flops == 3 * 2.0 * rows * ledger.parameters
