"""Times of functions that are called in turn, so that whatever else the machine does falls on all of them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

Function = Callable[[], object]


def interleaved(functions: Mapping[str, Function], rounds: int, device: str = "cpu") -> dict[str, float]:
    """Each function's quickest call in seconds: in each round each has one slow call, or quick ones for 0.1 s.

    The first two calls warm up caches, kernels and the allocator, say how quick the function is, and are not counted.
    """
    for run in functions.values():
        run()
    calls = {name: max(1, min(100, int(0.1 / max(seconds(run, device), 1e-9)))) for name, run in functions.items()}
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            taken[name] += [seconds(run, device) for _ in range(calls[name])]
    return {name: min(times) for name, times in taken.items()}


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
