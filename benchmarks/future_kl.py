"""The time of Future-KL beside the published algorithm, ms-swift's own function and the rate of a streaming copy."""

import importlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks import chunked_matrix
from benchmarks.table import Row
from benchmarks.timing import Timing, copy_seconds_per_byte, interleaved, launch_seconds
from losses import discounted_sum, future_kl
from losses.discounted_sum import discounted_future_sum

WHOLE, SUM, MATRIX = "Future-KL", "its discounted sum", "chunked matrix"
COPY = "copy of such an array, in the caches where it fits"
SEQUENCES, DECAY_RATE, DELTA = 16, 32.0, 10.0
LENGTHS = (1024, 4096, 16384)
# by length: how much faster than the chunked matrix on a CPU
TIMES_FASTER = {4096: 2000.0, 16384: 15000.0}

FutureKL = Callable[[Tensor, Tensor, float, float | None], Tensor]


def peers() -> dict[str, FutureKL]:
    """The published algorithm written here, and ms-swift's function where it is installed."""
    found: dict[str, FutureKL] = {MATRIX: chunked_matrix.future_kl}
    try:
        found["ms-swift 4.6.0"] = importlib.import_module("benchmarks.peers.ms_swift").future_kl
    except ImportError as error:
        print(f"note: without ms-swift: {error}")
    return found


def rows(device: str, lengths: tuple[int, ...] = LENGTHS, rounds: int = 7) -> Iterator[Row]:
    """Ratios of minima, the figure that other work on the machine disturbs least, with medians told beside."""
    ours: dict[int, dict[str, Timing]] = {}
    functions = {WHOLE: future_kl, **peers()}
    copies = [copy_seconds_per_byte(device)]
    for length in lengths:
        print(f"Future-KL, {SEQUENCES} x {length} tokens, {rounds} rounds ...", flush=True)
        ours[length] = measured(functions, length, rounds, device)
        copies.append(copy_seconds_per_byte(device))
    for length, times in ours.items():
        yield from of_length(length, times, 8 * SEQUENCES * length * min(copies), device)
    yield Row("streaming copy, the best", 1e-9 / min(copies), "GB/s")
    yield Row("streaming copy, the worst", 1e-9 / max(copies), "GB/s")
    if {4096, 16384} <= ours.keys():
        limit = 4.0 if device == "cpu" else None
        for name in (WHOLE, SUM):
            growth = ours[16384][name].minimum / ours[4096][name].minimum
            yield Row(f"{name}: time at 16,384 / at 4,096", growth, "times", at_most=limit)


def measured(functions: dict[str, FutureKL], length: int, rounds: int, device: str) -> dict[str, Timing]:
    """Times of one length, all functions checked to agree first."""
    generator = torch.Generator().manual_seed(0)
    log_ratio = (0.1 * torch.randn(SEQUENCES, length, generator=generator)).to(device)
    mask = torch.ones_like(log_ratio, dtype=torch.bool)
    expected = future_kl(log_ratio.double(), mask, DECAY_RATE, DELTA)
    target = torch.empty_like(log_ratio)
    calls: dict[str, Callable[[], object]] = {
        SUM: lambda: discounted_future_sum(log_ratio, DECAY_RATE),
        COPY: lambda: target.copy_(log_ratio),
    }
    for name, function in functions.items():
        error = float((function(log_ratio, mask, DECAY_RATE, DELTA) - expected).abs().max() / expected.abs().max())
        if error > 1e-5:
            raise AssertionError(f"{name} differs from float64 by {error:.1e} of the largest entry at length {length}")
        calls[name] = lambda function=function: function(log_ratio, mask, DECAY_RATE, DELTA)  # type: ignore[misc]
    return interleaved(calls, rounds, device)


def of_length(length: int, times: dict[str, Timing], floor: float, device: str) -> Iterator[Row]:
    """The figures of one length: peers against the whole, which masks and filters too, the floor against the sum."""
    where = f"at {length:,}"
    for name, timing in times.items():
        yield Row(f"{name} {where}, minimum", timing.minimum * 1e3, "ms")
        yield Row(f"{name} {where}, median", timing.median * 1e3, "ms")
    for name in [name for name in times if name not in (WHOLE, SUM, COPY)]:
        faster = TIMES_FASTER.get(length) if device == "cpu" and name == MATRIX else None
        yield Row(f"{name} / {WHOLE} {where}", times[name].minimum / times[WHOLE].minimum, "times", at_least=faster)
        yield Row(f"{name} / {SUM} {where}", times[name].minimum / times[SUM].minimum, "times")
    yield Row(f"{8 * SEQUENCES * length / 1e6:.1f} MB at the rate of a streaming copy (the floor)", floor * 1e3, "ms")
    limit = 4.0 if device == "cpu" and length == 16384 else None
    yield Row(f"{SUM} / floor {where}", times[SUM].minimum / floor, "times", at_most=limit)
    if device == "cuda":
        launching = launch_seconds() * kernels(length)
        yield Row(f"launching its {kernels(length)} kernels", launching * 1e3, "ms")
        aim = max(2 * floor, launching)
        yield Row(
            f"{SUM} / larger of two copies and its launches {where}", times[SUM].minimum / aim, "times", at_most=1.0
        )
    yield Row(f"{WHOLE} / floor {where}", times[WHOLE].minimum / floor, "times")


def kernels(length: int) -> int:
    """How many kernels the discounted sum starts: a product, a copy of heads and a carry a level, one product more."""
    levels = 0
    while length > discounted_sum.WHOLE:
        length = -(-length // discounted_sum.BLOCK)
        levels += 1
    return 3 * levels + 1
