import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.__main__ import main
from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.nonfinite import NonFinite, check_gradient, check_weights
from harness.algorithm.state import Training, begin, make_updater
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.errors import HarnessError
from harness.loop import update
from harness.model.policy import Policy
from harness.run.checkpoint import read_state
from harness.run.environment import model_sha256
from harness.run.record import RunFolder
from harness.tasks.chain_sum import GRADED
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config, small_flags

Shift = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass
class Prepared:
    """A run about to make an update of sixteen responses in two micro-batches."""

    training: Training
    minibatch: list[MicroBatch]
    known: list[KnownLogprobs]

    @property
    def record(self) -> LossRecord:
        return LossRecord(metric_names(self.training.updater.loss))

    def shifted(self, shift: Shift) -> list[KnownLogprobs]:
        return [dataclasses.replace(one, old=shift(one.old)) for one in self.known]


@pytest.fixture
def prepared(random_policy: Policy) -> Callable[..., Prepared]:
    def prepare(**changes: Any) -> Prepared:
        config = small_config(**{"loss_type": "dapo", "minibatches": 1, "micro_batch_size": 8} | changes)
        training = begin(config, random_policy.copy(), None)
        minibatches = plan_minibatches(four_groups(training.policy), training.policy, GRADED, config)
        (known,) = known_logprobs(training.policy, None, minibatches, 1.0)
        return Prepared(training, minibatches[0], known)

    return prepare


def first_token(value: float) -> Shift:
    """The old log-probability of each response's first token is this."""
    return lambda old: torch.cat([torch.full_like(old[:, :1], value), old[:, 1:]], dim=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -3e38])
@pytest.mark.parametrize("loss", [{"loss_type": "grpo", "beta": 0.1}, {"loss_type": "dapo"}, {"loss_type": "fipo"}])
def test_an_adversarial_old_logprob_steps_with_nothing_that_is_not_finite(
    prepared: Callable[..., Prepared], loss: dict[str, Any], value: float
) -> None:
    run = prepared(**loss | {"allow_inert": True})
    before = model_sha256(run.training.policy)
    known = [dataclasses.replace(one, reference=one.old) for one in run.shifted(first_token(value))]
    refused = None
    try:
        update(run.training, run.minibatch, known, run.record)
    except HarnessError as error:
        refused = str(error)
    if refused:
        assert " in the loss; " in refused or " in the gradient of " in refused
        assert model_sha256(run.training.policy) == before
        assert not run.training.updater.backend.optimizer.state
    else:
        assert not math.isnan(value)
        check_weights(run.training.updater.backend)


def test_so_many_are_skipped_and_no_more(prepared: Callable[..., Prepared], capsys: pytest.CaptureFixture[str]) -> None:
    run = prepared(skip_nonfinite=3)
    run.training.ledger.skipped_updates = 1  # in an earlier step
    before, record = model_sha256(run.training.policy), run.record
    bad = run.shifted(lambda old: old * math.nan)
    for number in (2, 3):
        update(run.training, run.minibatch, bad, record)
        assert capsys.readouterr().out.endswith(f": skipped, {number} of 3 allowed\n")
    assert (record.skipped, record.gradient_norms, dict(record.totals)) == (2, [], {})
    assert model_sha256(run.training.policy) == before
    with pytest.raises(HarnessError, match="or let such updates be skipped with --skip_nonfinite N"):
        update(run.training, run.minibatch, bad, record)


def test_the_gradient_that_is_not_finite_is_named_and_a_norm_that_overflows_without_one(
    prepared: Callable[..., Prepared],
) -> None:
    run = prepared()
    gradient = run.training.updater.gradient(run.minibatch, run.known)
    parameters = dict(run.training.policy.model.named_parameters())

    def check() -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters.values()])
        check_gradient(gradient.loss, norm, run.training.policy)

    for parameter in parameters.values():
        parameter.grad.mul_(1e30)
    with pytest.raises(NonFinite, match=r"got inf in the norm of the gradient$"):
        check()
    parameters["model.norm.weight"].grad[5] = -math.inf
    with pytest.raises(NonFinite, match=r"got -inf in the gradient of model\.norm\.weight"):
        check()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_weight_that_is_not_finite_is_named(random_policy: Policy, value: float) -> None:
    names = [name for name, _ in random_policy.model.named_parameters()]
    check_weights(make_updater(small_config(), random_policy).backend)
    for name, dtype in ((names[0], torch.float32), (names[-1], torch.bfloat16)):
        policy = random_policy.copy()
        policy.model.to(dtype)
        with torch.no_grad():
            dict(policy.model.named_parameters())[name].view(-1)[-1] = value
        with pytest.raises(NonFinite, match=f"in the weight {name}$".replace(".", r"\.")):
            check_weights(make_updater(small_config(), policy).backend)


def test_weights_that_a_step_made_infinite_end_the_run_whatever_may_be_skipped(
    prepared: Callable[..., Prepared],
) -> None:
    run = prepared(lr=3.3e37, weight_decay=10.0, skip_nonfinite=9)
    with pytest.raises(HarnessError, match="got -inf in the weight "):
        update(run.training, run.minibatch, run.known, run.record)


@pytest.mark.train
def test_a_run_that_diverges_ends_in_one_line_and_keeps_its_checkpoint(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = small_flags(model_folder, steps=3, lr=1e30, checkpoint_every=1, skip_nonfinite=1, minibatches=2)
    code, printed, errors = outcome(main, ["train", *flags, "--output_dir", tmp_path / "run"], capsys)
    assert (code, len(errors)) == (1, 1)
    assert "step 1: expected finite numbers, got nan in the loss" in errors[0]
    assert [line for line in printed if line.endswith(": skipped, 1 of 1 allowed")]
    status = runs.read_json(tmp_path / "run" / "status.json")
    assert (status["state"], status["reason_code"]) == ("failed", "diverged")
    assert (status["exit_code"], status["steps_done"]) == (1, 1)
    (line,) = runs.metrics(RunFolder(tmp_path / "run"))
    assert (line["ledger/updates"], line["ledger/skipped_updates"]) == (1, 1)
    assert read_state(tmp_path / "run" / "checkpoints" / "step_000001").steps_done == 1
