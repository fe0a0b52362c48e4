"""What FIPO's loss costs beside DAPO's, and as a share of a training step of the default model."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.table import Row
from benchmarks.timing import interleaved
from harness.algorithm.batching import plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.state import make_updater
from harness.algorithm.update import known_logprobs
from harness.cli.output import print_warm_start
from harness.config.resolve import resolve
from harness.rollouts.collect import collect
from harness.rollouts.engine import Actors, SamplerContext, TorchEngine
from harness.run.initial_model import initial_policy
from harness.tasks.chain_sum import CHAIN_SUMS
from losses import DAPO, FIPO, Loss, LossBatch, token_weights

SEQUENCES, LENGTH = 16, 4096
DEMO = {"loss_type": "fipo", "epsilon_high": 0.28}


def rows(device: str, length: int = LENGTH, rounds: int = 40) -> Iterator[Row]:
    """FIPO against DAPO, forward and backward, log-probabilities given."""
    print(f"whole losses, {SEQUENCES} x {length} tokens ...", flush=True)
    losses = {"DAPO": DAPO(epsilon_high=0.28, delta=10.0), "FIPO": FIPO(epsilon_high=0.28, delta=10.0)}
    batch = drawn(SEQUENCES, length, device)
    times = interleaved({name: forward_and_backward(loss, batch) for name, loss in losses.items()}, rounds, device)
    for name, timing in times.items():
        yield Row(f"{name} forward and backward at {length:,}, minimum", timing.minimum * 1e3, "ms")
        yield Row(f"{name} forward and backward at {length:,}, median", timing.median * 1e3, "ms")
    ratio = times["FIPO"].minimum / times["DAPO"].minimum
    yield Row(f"FIPO / DAPO at {length:,}", ratio, "times", at_most=1.6)


def drawn(sequences: int, length: int, device: str) -> LossBatch:
    """Responses of half to the whole length."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(sequences, length, generator=generator)
    policy = old + 0.1 * torch.randn(sequences, length, generator=generator)
    advantages = torch.randn(sequences, 1, generator=generator).expand(sequences, length).contiguous()
    ends = torch.randint(length // 2, length + 1, (sequences, 1), generator=generator)
    mask = torch.arange(length) < ends
    return LossBatch(policy.to(device), old.to(device), advantages.to(device), mask.to(device))


def forward_and_backward(loss: Loss, batch: LossBatch) -> Callable[[], object]:
    """A call of the loss and the gradient of its token mean."""
    weights = token_weights(batch.mask, "token_mean")
    policy = batch.policy_logprobs.detach().clone().requires_grad_()
    inputs = LossBatch(policy, batch.old_logprobs, batch.advantages, batch.mask)

    def run() -> object:
        return torch.autograd.grad((loss(inputs).token_loss * weights).sum(), policy)

    return run


def share_of_step(rounds: int = 5) -> Iterator[Row]:
    """All calls of the loss in one training step of `--preset demo`, beside the whole step; CPU, one thread."""
    print("a training step of the default model ...", flush=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = resolve(DEMO, preset="demo")
    policy, task = initial_policy(config, print_warm_start), CHAIN_SUMS[config.task.task]
    asking = SamplerContext(policy, task, config, Actors(TorchEngine(policy)))
    updater = make_updater(config, policy)
    kept = collect(asking, 0).kept
    minibatches = plan_minibatches(kept, policy, task, config)

    def step() -> None:
        collect(asking, 0)
        known = known_logprobs(updater.backend, None, minibatches, config.rollout.temperature)
        record = LossRecord(metric_names(updater.loss))
        for minibatch, logprobs in zip(minibatches, known, strict=True):
            updater.step(minibatch, logprobs, record)

    masks = [batch.tokens.mask for minibatch in minibatches for batch in minibatch]
    calls = [forward_and_backward(updater.loss, drawn(mask.shape[0], mask.shape[1], "cpu")) for mask in masks]
    times = interleaved({"step": step, "losses": lambda: [call() for call in calls]}, rounds)
    torch.set_num_threads(threads)
    yield Row(f"a step of the demo without evaluation, {len(calls)} updates", times["step"].minimum, "s")
    yield Row(f"{len(calls)} FIPO losses of such a step, forward and backward", times["losses"].minimum * 1e3, "ms")
    share = 100 * times["losses"].minimum / times["step"].minimum
    yield Row("share of FIPO's losses in a step of the demo", share, "%", at_most=0.5)
