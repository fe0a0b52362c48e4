"""Future-KL beside the paper's algorithm and the rate of a streaming copy."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.frame import Row
from benchmarks.timing import copy_seconds_per_byte, interleaved
from harness.errors import HarnessError
from losses import future_kl

SEQUENCES, DECAY_RATE, DELTA = 16, 32.0, 10.0
LENGTHS = (4096, 16384)  # tokens of a response
CHUNK = 128  # columns of the matrix at a time, as published


def rows(device: str, lengths: tuple[int, ...] = LENGTHS, rounds: int = 7) -> Iterator[Row]:
    """Minima, which other work on the machine disturbs least."""
    per_byte = copy_seconds_per_byte(device)
    for length in lengths:
        print(f"Future-KL, {SEQUENCES} x {length} tokens ...", flush=True)
        yield beside_published(chunked_matrix, length, rounds, device, per_byte)


def chunked_matrix(log_ratio: Tensor, mask: Tensor, decay_rate: float, delta: float | None = None) -> Tensor:
    """A matrix of decays, a chunk of its columns at a time: time grows with the square of the length (appendix G)."""
    log_ratio = log_ratio.detach()
    kept = mask if delta is None else mask & (log_ratio.exp() <= delta)
    shifts = torch.where(kept, log_ratio, 0.0)
    position = torch.arange(mask.shape[1], device=mask.device)
    chunks = []
    for start in range(0, mask.shape[1], CHUNK):
        distance = position[:, None] - position[start : start + CHUNK]
        decay = torch.pow(2.0 ** (-1.0 / decay_rate), distance.clamp(min=0)).to(shifts.dtype)
        chunks.append(shifts @ torch.where(distance >= 0, decay, 0.0))
    return torch.where(mask, torch.cat(chunks, dim=1), 0.0)


def beside_published(peer: Callable[..., Tensor], length: int, rounds: int, device: str, per_byte: float) -> Row:
    """Both are checked to agree first; the limit is 4 bytes read and 4 written a token by a streaming copy."""
    generator = torch.Generator().manual_seed(0)
    log_ratio = (0.1 * torch.randn(SEQUENCES, length, generator=generator)).to(device)
    mask = torch.ones_like(log_ratio, dtype=torch.bool)
    expected = future_kl(log_ratio.double(), mask, DECAY_RATE, DELTA)
    calls: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: future_kl(log_ratio, mask, DECAY_RATE, DELTA),
        "peer": lambda: peer(log_ratio, mask, DECAY_RATE, DELTA),
    }
    for name, call in calls.items():
        error = float((call() - expected).abs().max() / expected.abs().max())
        if error > 1e-5:
            raise HarnessError(f"{name}: expected Future-KL to 1e-5 of its largest entry, got an error of {error:.1e}")
    times = {name: 1e3 * timing.minimum for name, timing in interleaved(calls, rounds, device).items()}
    limit = 1e3 * 8 * SEQUENCES * length * per_byte
    figure = f"Future-KL of {SEQUENCES} x {length:,} tokens beside the chunked matrix"
    return Row(figure, times["ours"], "ms", times["peer"], limit, is_cost=True)
