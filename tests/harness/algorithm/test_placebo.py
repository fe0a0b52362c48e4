"""Placebos of FIPO on a batch made by hand: what each keeps, what it takes away, and what it depends on."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from harness.algorithm import placebo
from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.placebo import Placebo, Row, SentRow, placebo_weights, replacement, rows_of
from harness.algorithm.state import make_ledger, make_updater
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.backends.ranks import ALONE
from harness.model.policy import Policy
from harness.tasks.chain_sum import GRADED
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config

Replacement = Callable[[Placebo, int, Sequence[Row]], list[torch.Tensor]]
KINDS: tuple[Placebo, ...] = ("sign_mean", "response_mean", "shuffle_within", "shuffle_batch")
SHUFFLES = KINDS[2:]


def rows(step: int = 0) -> list[Row]:
    """Three responses: one of positive, one of negative advantage, one with a token of each and of none."""
    return [
        Row((step, "a", 0), torch.arange(1.0, 13.0), torch.full((12,), 0.5)),
        Row((step, "a", 1), torch.arange(20.0, 28.0), torch.full((8,), -0.5)),
        Row((step, "b", 0), torch.tensor([0.5, 0.25, 3.0]), torch.tensor([1.0, -1.0, 0.0])),
    ]


def check_sign_mean(of: Replacement) -> None:
    positive = (sum(range(1, 13)) + 0.5) / 13
    negative = (sum(range(20, 28)) + 0.25) / 9
    first, second, third = of("sign_mean", 0, rows())
    assert first.tolist() == pytest.approx([positive] * 12)
    assert second.tolist() == pytest.approx([negative] * 8)
    assert third.tolist() == pytest.approx([positive, negative, 3.0])


def check_response_mean(of: Replacement) -> None:
    first, second, third = of("response_mean", 0, rows())
    assert first.tolist() == pytest.approx([sum(range(1, 13)) / 12] * 12)
    assert second.tolist() == pytest.approx([sum(range(20, 28)) / 8] * 8)
    assert third.tolist() == pytest.approx([3.75 / 3] * 3)


def check_shuffle_within(of: Replacement) -> None:
    shuffled = of("shuffle_within", 0, rows())
    for new, row in zip(shuffled, rows(), strict=True):
        assert sorted(new.tolist()) == sorted(row.weights.tolist())
    assert [new.tolist() != row.weights.tolist() for new, row in zip(shuffled, rows(), strict=True)][:2] == [True, True]
    alike = [dataclasses.replace(row, weights=torch.arange(12.0)) for row in (rows()[0], rows(1)[0])]
    first, other = of("shuffle_within", 0, [alike[0], dataclasses.replace(alike[1], key=(0, "a", 1))])
    assert first.tolist() != other.tolist()  # each response has a permutation of its own


def check_shuffle_batch(of: Replacement) -> None:
    shuffled = of("shuffle_batch", 0, rows())
    assert [len(new) for new in shuffled] == [12, 8, 3]
    everything = torch.cat([row.weights for row in rows()])
    assert sorted(torch.cat(shuffled).tolist()) == sorted(everything.tolist())
    assert any(value >= 20 for value in shuffled[0].tolist())  # a weight of another response


def check_sum(of: Replacement, kind: Placebo) -> None:
    total = sum(float(row.weights.sum()) for row in rows())
    assert sum(float(new.sum()) for new in of(kind, 3, rows())) == pytest.approx(total, rel=1e-6)


def check_keys(of: Replacement, kind: Placebo) -> None:
    def drawn(seed: int, step: int) -> list[float]:
        return torch.cat(of(kind, seed, rows(step))).tolist()

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(2, 2)
    assert drawn(1, 2) != drawn(1, 3)


def test_sign_mean_gives_every_sign_its_mean() -> None:
    check_sign_mean(replacement)


def test_response_mean_gives_every_response_its_mean() -> None:
    check_response_mean(replacement)


def test_shuffle_within_permutes_each_response_by_itself() -> None:
    check_shuffle_within(replacement)


def test_shuffle_batch_permutes_over_all_responses() -> None:
    check_shuffle_batch(replacement)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_of_the_weights_is_kept(kind: Placebo) -> None:
    check_sum(replacement, kind)


@pytest.mark.parametrize("kind", SHUFFLES)
def test_permutations_are_a_function_of_seed_and_step(kind: Placebo) -> None:
    check_keys(replacement, kind)


# a placebo, a change of its source, and the check that must notice it
MUTANTS = [
    ("signs == sign", "signs != sign", check_sign_mean),
    ("double().mean()", "double().sum()", check_sign_mean),
    ("for sign in (-1, 0, 1)", "for sign in (-1, 0)", check_sign_mean),
    ("row.advantages.sign()", "row.advantages.abs()", check_sign_mean),
    ("kind, row.key)", "kind, rows[0].key)", check_shuffle_within),
    ("row.weights[permutation", "rows[0].weights[permutation", check_shuffle_within),
    ("weights[permutation(len(weights), seed, kind, rows[0].key)]", "weights", check_shuffle_batch),
    ("torch.cat([row.weights for row in rows])", "rows[1].weights.repeat(3)[:23]", check_shuffle_batch),
    ("stream(seed, kind, *key)", "stream(0, kind, *key)", lambda of: check_keys(of, "shuffle_within")),
    ("stream(seed, kind, *key)", "stream(seed, kind, *key[1:])", lambda of: check_keys(of, "shuffle_batch")),
    ("double().mean()", "double().mean().mul(1.01)", lambda of: check_sum(of, "sign_mean")),
]


@pytest.mark.parametrize(("code", "mutant", "check"), MUTANTS)
def test_a_mutant_is_caught(code: str, mutant: str, check: Callable[[Replacement], None]) -> None:
    source = inspect.getsource(placebo)
    assert code in source
    changed: dict[str, Any] = {"__name__": "harness.placebo_mutant"}
    exec(compile(source.replace(code, mutant), "mutant", "exec", dont_inherit=True), changed)
    changed["Row"] = Row
    with pytest.raises((AssertionError, IndexError)):
        check(changed["replacement"])


def test_the_placebos_draw_apart() -> None:
    alone = [Row((0, "a", 0), torch.arange(1.0, 13.0), torch.ones(12))]
    assert replacement("shuffle_within", 0, alone)[0].tolist() != replacement("shuffle_batch", 0, alone)[0].tolist()


def test_an_unknown_placebo_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a placebo, got 'none'"):
        replacement("none", 0, rows())


def minibatch_of(policy: Policy, micro_batch_size: int | None) -> list[MicroBatch]:
    config = small_config(minibatches=1, micro_batch_size=micro_batch_size)
    (minibatch,) = plan_minibatches(four_groups(policy), policy, GRADED, config)
    return minibatch


WIDE = {
    "loss_type": "fipo",
    "fipo_clip_range": 0.5,
    "fipo_clip_high_only": False,
    "epsilon": 0.9,
    "epsilon_high": 0.9,
    "allow_inert": True,
}


def gradient(policy: Policy, micro_batch_size: int | None = None, **changes: object) -> torch.Tensor:
    """The gradient of an optimizer step on old log-probabilities that are not the policy's."""
    minibatch = minibatch_of(policy, micro_batch_size)
    updater = make_updater(small_config(minibatches=1, micro_batch_size=micro_batch_size, **changes), policy.copy())
    known = shifted_alike(policy, minibatch)
    updater.gradient(minibatch, known)
    return torch.cat([parameter.grad.flatten() for parameter in updater.policy.model.parameters()])


def shifted_alike(policy: Policy, minibatch: list[MicroBatch]) -> list[KnownLogprobs]:
    """The same shift of every token whatever the micro-batches."""
    (known,) = known_logprobs(policy, None, [minibatch], 1.0)
    result = []
    for batch, one in zip(minibatch, known, strict=True):
        shift = torch.zeros_like(one.old)
        for row, response in enumerate(batch.responses):
            phase = 7 * response.sample + len(response.prompt_tokens)
            shift[row] = 0.3 * torch.sin(torch.arange(shift.shape[1]) * 1.7 + phase)
        result.append(KnownLogprobs(one.old - shift, None))
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_a_placebo_reaches_fipos_gradient(random_policy: Policy, kind: Placebo) -> None:
    plain, placebo = (gradient(random_policy, **WIDE, fipo_placebo=each) for each in ("none", kind))
    assert (plain - placebo).norm() > 1e-3 * plain.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_do_not_change_a_placebo(random_policy: Policy, kind: Placebo) -> None:
    whole, split = (gradient(random_policy, size, **WIDE, fipo_placebo=kind) for size in (None, 4))
    assert (whole - split).norm() < 1e-5 * whole.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_a_placebo_leaves_dapo_unchanged(random_policy: Policy, kind: Placebo) -> None:
    changes = {"loss_type": "dapo", "allow_inert": True}
    plain, placebo = (gradient(random_policy, **changes, fipo_placebo=each) for each in ("none", kind))
    assert plain.equal(placebo)


@pytest.mark.parametrize("kind", KINDS)
def test_a_placebo_of_weights_of_one_is_dapo(random_policy: Policy, kind: Placebo) -> None:
    ours = gradient(random_policy, **WIDE | {"fipo_clip_range": 1e-12}, fipo_placebo=kind)
    assert ours.equal(gradient(random_policy, loss_type="dapo", epsilon=0.9, epsilon_high=0.9, allow_inert=True))


def test_masked_tokens_neither_give_nor_take_weights(random_policy: Policy) -> None:
    minibatch = minibatch_of(random_policy, None)
    (batch,) = minibatch
    mask = batch.tokens.mask.clone()
    mask[1] = False  # as the sequence filter drops a response
    weights = torch.arange(1.0, mask.numel() + 1).view(mask.shape)
    (replaced,) = placebo_weights("shuffle_batch", 0, [(batch, weights, mask)], ALONE)
    assert replaced[~mask].equal(weights[~mask])
    assert sorted(replaced[mask].tolist()) == sorted(weights[mask].tolist())


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Two ranks' rows, as each of them sees them."""

    everywhere: list[list[Row]]

    def gather(self, _: list[SentRow], kind: object) -> list[list[SentRow]]:
        assert kind == list[SentRow]
        return [[(row.key, row.weights.tolist(), row.advantages.tolist()) for row in rows] for rows in self.everywhere]


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_do_not_change_a_placebo(random_policy: Policy, kind: Placebo) -> None:
    (whole,) = minibatch_of(random_policy, None)
    weights = torch.arange(1.0, whole.tokens.mask.numel() + 1).view(whole.tokens.mask.shape)
    (alone,) = placebo_weights(kind, 0, [(whole, weights, whole.tokens.mask)], ALONE)
    # every other response on another rank, each with the micro-batches that it holds
    shares = [[(part_of(whole, rows), weights[rows], whole.tokens.mask[rows])] for rows in ([0, 2, 4], [1, 3, 5])]
    ranks = Gathered([[row for part in share for row in rows_of(*part)] for share in shares])
    everywhere = [Gathered([*ranks.everywhere, rest_of(whole, weights)]) for _ in shares]
    for share, rows, seen in zip(shares, ([0, 2, 4], [1, 3, 5]), everywhere, strict=True):
        (split,) = placebo_weights(kind, 0, share, seen)  # type: ignore[arg-type]
        assert split.equal(alone[rows])


def part_of(batch: MicroBatch, rows: list[int]) -> MicroBatch:
    return dataclasses.replace(
        batch, responses=[batch.responses[row] for row in rows], advantages=batch.advantages[rows]
    )


def rest_of(batch: MicroBatch, weights: torch.Tensor) -> list[Row]:
    """What a third rank has: the responses from the seventh on."""
    rows = list(range(6, len(batch.responses)))
    return rows_of(part_of(batch, rows), weights[rows], batch.tokens.mask[rows])


def test_a_step_that_the_filter_emptied_has_no_weights_to_replace(random_policy: Policy) -> None:
    (batch,) = minibatch_of(random_policy, None)
    mask = torch.zeros_like(batch.tokens.mask)
    weights = torch.ones(mask.shape)
    for kind in KINDS:
        (replaced,) = placebo_weights(kind, 0, [(batch, weights, mask)], ALONE)
        assert replaced.equal(weights)


def test_the_record_holds_the_weights_that_were_used(random_policy: Policy) -> None:
    minibatch = minibatch_of(random_policy, None)
    updater = make_updater(small_config(minibatches=1, **WIDE, fipo_placebo="sign_mean"), random_policy.copy())
    record = LossRecord(metric_names(updater.loss))
    updater.step(minibatch, shifted_alike(random_policy, minibatch), record)
    assert record.latest is not None
    batch, output = record.latest
    used = output.diagnostics["influence_weight"]
    for sign in (-1, 1):
        assert len(used[(batch.advantages.sign() == sign) & output.mask].unique()) == 1


def test_the_ledger_counts_the_placebos_forward_pass(random_policy: Policy) -> None:
    counts = [
        make_ledger(small_config(**WIDE, epochs=2, fipo_placebo=kind), random_policy).forwards
        for kind in ("none", "sign_mean")
    ]
    assert counts == [1, 3]
    assert make_ledger(small_config(fipo_placebo="sign_mean"), random_policy).forwards == 1  # of another loss: idle
