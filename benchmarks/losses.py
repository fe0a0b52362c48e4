"""Future-KL beside published code and the rate of a streaming copy, and FIPO's whole loss beside DAPO's."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.frame import Row
from benchmarks.published import FutureKL, chunked_matrix, ms_swift
from benchmarks.timing import copy_seconds_per_byte, interleaved
from harness.errors import HarnessError
from losses import DAPO, FIPO, Loss, LossBatch, future_kl, token_weights

SEQUENCES, DECAY_RATE, DELTA = 16, 32.0, 10.0
LENGTHS = (4096, 16384)  # tokens of a response


def rows(device: str, lengths: tuple[int, ...] = LENGTHS, rounds: int = 7) -> Iterator[Row]:
    """Minima, which other work on the machine disturbs least."""
    functions: dict[str, FutureKL] = {"ours": future_kl, "the chunked matrix": chunked_matrix}
    try:
        functions["ms-swift 4.6.0"] = ms_swift()
    except ImportError as error:
        print(f"note: without ms-swift: {error}")
    per_byte = copy_seconds_per_byte(device)
    for length in lengths:
        print(f"Future-KL, {SEQUENCES} x {length} tokens ...", flush=True)
        yield from beside_published(functions, length, rounds, device, per_byte)
    print("FIPO's loss beside DAPO's ...", flush=True)
    yield beside_dapo(device, lengths[0], 6 * rounds)


def beside_published(
    functions: dict[str, FutureKL], length: int, rounds: int, device: str, per_byte: float
) -> Iterator[Row]:
    """A row a peer, all checked to agree first; the limit is 4 bytes read and 4 written a token by a streaming copy."""
    generator = torch.Generator().manual_seed(0)
    log_ratio = (0.1 * torch.randn(SEQUENCES, length, generator=generator)).to(device)
    mask = torch.ones_like(log_ratio, dtype=torch.bool)
    expected = future_kl(log_ratio.double(), mask, DECAY_RATE, DELTA)
    calls: dict[str, Callable[[], object]] = {}
    for name, function in functions.items():
        error = float((function(log_ratio, mask, DECAY_RATE, DELTA) - expected).abs().max() / expected.abs().max())
        if error > 1e-5:
            raise HarnessError(f"{name}: expected Future-KL to 1e-5 of its largest entry, got an error of {error:.1e}")
        calls[name] = lambda function=function: function(log_ratio, mask, DECAY_RATE, DELTA)  # type: ignore[misc]
    times = {name: 1e3 * timing.minimum for name, timing in interleaved(calls, rounds, device).items()}
    limit = 1e3 * 8 * SEQUENCES * length * per_byte
    for peer in [name for name in times if name != "ours"]:
        figure = f"Future-KL of {SEQUENCES} x {length:,} tokens beside {peer}"
        yield Row(figure, times["ours"], "ms", times[peer], limit, is_cost=True)


def beside_dapo(device: str, length: int, rounds: int) -> Row:
    """Forward and backward, log-probabilities given."""
    losses = {"FIPO": FIPO(epsilon_high=0.28, delta=DELTA), "DAPO": DAPO(epsilon_high=0.28, delta=DELTA)}
    batch = drawn(length, device)
    times = interleaved({name: forward_and_backward(loss, batch) for name, loss in losses.items()}, rounds, device)
    ours, peer = (1e3 * times[name].minimum for name in losses)
    figure = f"FIPO's loss of {SEQUENCES} x {length:,} tokens beside DAPO's"
    return Row(figure, ours, "ms", peer, target=0.6, is_cost=True)


def drawn(length: int, device: str) -> LossBatch:
    """Responses of half to the whole length."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(SEQUENCES, length, generator=generator)
    policy = old + 0.1 * torch.randn(SEQUENCES, length, generator=generator)
    advantages = torch.randn(SEQUENCES, 1, generator=generator).expand(SEQUENCES, length).contiguous()
    ends = torch.randint(length // 2, length + 1, (SEQUENCES, 1), generator=generator)
    mask = torch.arange(length) < ends
    return LossBatch(policy.to(device).requires_grad_(), old.to(device), advantages.to(device), mask.to(device))


def forward_and_backward(loss: Loss, batch: LossBatch) -> Callable[[], object]:
    """A call of the loss and the gradient of its token mean."""
    weights = token_weights(batch.mask, "token_mean")
    return lambda: torch.autograd.grad((loss(batch).token_loss * weights).sum(), batch.policy_logprobs)
