"""Times of functions that are called in turn, so that whatever else the machine does falls on all of them."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Function = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, or of one unit of what a call made."""

    median: float
    minimum: float


def interleaved(functions: Mapping[str, Function], rounds: int, device: str = "cpu") -> dict[str, Timing]:
    """The time of each function's calls: in each round each has one slow call, or quick ones for a tenth of a second.

    The first two calls warm up caches, kernels and the allocator, say how quick the function is, and are not counted.
    """
    for run in functions.values():
        run()
    calls = {name: max(1, min(100, int(0.1 / max(seconds(run, device), 1e-9)))) for name, run in functions.items()}
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            taken[name] += [seconds(run, device) for _ in range(calls[name])]
    return {name: Timing(statistics.median(times), min(times)) for name, times in taken.items()}


def interleaved_per_unit(functions: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, Timing]:
    """CPU seconds per unit: each call returns how many units it made. The first call of each is not counted."""
    for run in functions.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            begin = time.process_time()
            made = run()
            taken[name].append((time.process_time() - begin) / made)
    return {name: Timing(statistics.median(times), min(times)) for name, times in taken.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def seconds(run: Function, device: str) -> float:
    """Wall seconds of a call, on a GPU between two events around it on the current stream."""
    if device != "cuda":
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def copy_seconds_per_byte(device: str, bytes_each: int = 2**28) -> float:
    """Seconds per byte moved by a streaming copy of a large array, best of 50; read and write both count."""
    source = torch.ones(bytes_each // 4, device=device)
    target = torch.empty_like(source)
    return min(seconds(lambda: target.copy_(source), device) for _ in range(50)) / (2 * bytes_each)
