"""Placebos on a batch made by hand: what each keeps, what it takes away, and what it depends on."""

import dataclasses
from typing import get_args

import pytest
import torch

from harness.algorithm.batching import MicroBatch
from harness.algorithm.placebo import Row, placebo_weights, replacement, rows_of
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.backends.ranks import ALONE
from harness.config.loss import LossType, Placebo
from harness.model.policy import Policy
from tests.harness.algorithm.steps import one_minibatch, stepped

KINDS: tuple[Placebo, ...] = get_args(Placebo)[1:]


def rows(step: int = 0) -> list[Row]:
    """Three responses: one of positive, one of negative advantage, one with a token of each and of none."""
    return [
        Row((step, "a", 0), [float(weight) for weight in range(1, 13)], [0.5] * 12),
        Row((step, "a", 1), [float(weight) for weight in range(20, 28)], [-0.5] * 8),
        Row((step, "b", 0), [0.5, 0.25, 3.0], [1.0, -1.0, 0.0]),
    ]


def test_means_by_sign_and_by_response() -> None:
    positive = (sum(range(1, 13)) + 0.5) / 13
    negative = (sum(range(20, 28)) + 0.25) / 9
    first, second, third = replacement("sign_mean", 0, rows())
    assert first.tolist() == pytest.approx([positive] * 12)
    assert second.tolist() == pytest.approx([negative] * 8)
    assert third.tolist() == pytest.approx([positive, negative, 3.0])
    first, second, third = replacement("response_mean", 0, rows())
    assert first.tolist() == pytest.approx([sum(range(1, 13)) / 12] * 12)
    assert second.tolist() == pytest.approx([sum(range(20, 28)) / 8] * 8)
    assert third.tolist() == pytest.approx([3.75 / 3] * 3)


def test_shuffles_permute_each_response_by_itself_or_all_of_them() -> None:
    shuffled = replacement("shuffle_within", 0, rows())
    for new, row in zip(shuffled, rows(), strict=True):
        assert sorted(new.tolist()) == sorted(row.weights)
    assert [new.tolist() != row.weights for new, row in zip(shuffled, rows(), strict=True)][:2] == [True, True]
    alike = [dataclasses.replace(rows()[0], key=(0, "a", sample)) for sample in (0, 1)]
    first, other = replacement("shuffle_within", 0, alike)
    assert first.tolist() != other.tolist()  # each response has a permutation of its own
    assert first.tolist() != replacement("shuffle_batch", 0, alike[:1])[0].tolist()  # and each placebo
    over_all = replacement("shuffle_batch", 0, rows())
    assert [len(new) for new in over_all] == [12, 8, 3]
    assert sorted(torch.cat(over_all).tolist()) == sorted(weight for row in rows() for weight in row.weights)
    assert over_all[0].max() >= 20  # a weight of another response


def test_position_has_the_mean_at_each_distance_from_the_end() -> None:
    first, second, third = replacement("position", 0, rows())
    assert third.tolist() == pytest.approx([(10 + 25 + 0.5) / 3, (11 + 26 + 0.25) / 3, (12 + 27 + 3) / 3])
    assert first.tolist()[-3:] == second.tolist()[-3:] == third.tolist()
    assert second.tolist()[0] == pytest.approx((5 + 20) / 2)
    assert first.tolist()[:4] == [1.0, 2.0, 3.0, 4.0]  # only this response is as long


def test_other_response_gives_each_the_weights_of_another_stretched_to_its_length() -> None:
    given = replacement("other_response", 0, rows())
    assert [len(weights) for weights in given] == [12, 8, 3]
    owners = [set(row.weights) for row in rows()]
    givers = [[owner for owner in range(3) if set(weights.tolist()) <= owners[owner]] for weights in given]
    assert sorted(giver for (giver,) in givers) == [0, 1, 2]
    assert all(giver != [own] for own, giver in enumerate(givers))
    for own, (giver,) in enumerate(givers):
        source = rows()[giver].weights
        assert given[own].tolist() == [
            float(source[t * len(source) // len(given[own])]) for t in range(len(given[own]))
        ]
    (alone,) = replacement("other_response", 0, rows()[:1])
    assert alone.tolist() == rows()[0].weights


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_of_the_weights_is_kept_and_draws_are_keyed_by_seed_and_step(kind: Placebo) -> None:
    def drawn(seed: int, step: int) -> list[float]:
        return torch.cat(replacement(kind, seed, rows(step))).tolist()

    if kind != "other_response":
        assert sum(drawn(3, 0)) == pytest.approx(sum(sum(row.weights) for row in rows()), rel=1e-6)
    assert drawn(1, 2) == drawn(1, 2)
    if kind.startswith("shuffle"):
        assert drawn(1, 2) != drawn(2, 2)
        assert drawn(1, 2) != drawn(1, 3)


WIDE = {"loss_type": "fipo", "fipo_clip_range": 0.5, "fipo_clip_high_only": False, "epsilon": 0.9, "epsilon_high": 0.9}


def gradient(policy: Policy, **changes: object) -> torch.Tensor:
    """The gradient of an optimizer step on old log-probabilities that are not the policy's."""
    minibatch = one_minibatch(policy)
    return stepped(policy, minibatch, shifted(policy, minibatch), **changes)[0]


def shifted(policy: Policy, minibatch: list[MicroBatch]) -> list[KnownLogprobs]:
    """Old log-probabilities from which every token has moved otherwise."""
    (known,) = known_logprobs(policy, None, [minibatch], 1.0)
    return [
        KnownLogprobs(one.old - 0.3 * torch.sin(torch.arange(one.old.numel()) * 1.7).view_as(one.old), None)
        for one in known
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_placebo_of_weights_of_one_changes_nothing(random_policy: Policy, kind: Placebo) -> None:
    reinforce = gradient(random_policy, loss_type="reinforce")
    torch.testing.assert_close(gradient(random_policy, loss_type="reinforce", placebo=kind), reinforce)
    plain = gradient(random_policy, loss_type="dapo", epsilon=0.9, epsilon_high=0.9)
    assert plain.equal(gradient(random_policy, **WIDE | {"fipo_clip_range": 1e-12}, placebo=kind))


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Two ranks' rows, as each of them sees them."""

    everywhere: list[list[Row]]

    def gather(self, _: list[Row], kind: object) -> list[list[Row]]:
        assert kind == list[Row]
        return self.everywhere


@pytest.mark.parametrize("loss_type", ["dapo", "gspo", "cispo", "sapo", "dppo", "gmpo", "vespo"])
def test_a_loss_without_influence_weights_has_its_gradients_weights_replaced(
    random_policy: Policy, loss_type: LossType
) -> None:
    minibatch = one_minibatch(random_policy)
    known = shifted(random_policy, minibatch)
    _, own = stepped(random_policy, minibatch, known, loss_type=loss_type)
    _, other = stepped(random_policy, minibatch, known, loss_type=loss_type, placebo="sign_mean")
    assert other.weights.bins[1].sum().item() == pytest.approx(own.weights.bins[1].sum().item())
    assert (other.weights.bins[0] > 0).sum() <= 2 < (own.weights.bins[0] > 0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_do_not_change_a_placebo(random_policy: Policy, kind: Placebo) -> None:
    (whole,) = one_minibatch(random_policy)
    mask = whole.tokens.mask
    weights = torch.arange(1.0, mask.numel() + 1).view(mask.shape)
    (alone,), everyone = placebo_weights(kind, 0, [(whole, weights, mask)], ALONE), rows_of(whole, weights, mask)
    ranks = Gathered([everyone[1::2], everyone[::2]])
    for own in (list(range(part, len(everyone), 2)) for part in (0, 1)):
        responses = [whole.responses[row] for row in own]
        share = dataclasses.replace(whole, responses=responses, advantages=whole.advantages[own])
        assert rows_of(share, weights[own], mask[own]) == [everyone[row] for row in own]
        (split,) = placebo_weights(kind, 0, [(share, weights[own], mask[own])], ranks)  # type: ignore[arg-type]
        assert split.equal(alone[own])


def test_a_step_that_the_filter_emptied_has_no_weights_to_replace(random_policy: Policy) -> None:
    (batch,) = one_minibatch(random_policy)
    mask = torch.zeros_like(batch.tokens.mask)
    weights = torch.ones(mask.shape)
    for kind in KINDS:
        (replaced,) = placebo_weights(kind, 0, [(batch, weights, mask)], ALONE)
        assert replaced.equal(weights)


def test_the_record_holds_the_weights_that_were_used(random_policy: Policy) -> None:
    minibatch = one_minibatch(random_policy)
    known = shifted(random_policy, minibatch)
    _, record = stepped(random_policy, minibatch, known, minibatches=1, **WIDE, placebo="sign_mean")
    assert record.latest is not None
    batch, output = record.latest
    used = output.diagnostics["influence_weight"]
    for sign in (-1, 1):
        assert len(used[(batch.advantages.sign() == sign) & output.mask].unique()) == 1
