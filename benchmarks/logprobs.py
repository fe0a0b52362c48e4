"""Memory and time of log-probabilities and entropy without the matrix of logits, beside the plain computation.

On a CPU each variant runs in a process of its own, whose peak of resident memory above what it held before is taken.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.table import Row
from harness.model.logprobs import token_logprobs

HIDDEN, VOCABULARY = 896, 151_936  # Qwen2.5-0.5B
TOKENS = {"cpu": 2048, "cuda": 16_384}  # plain, the latter need about 45 GB of a GPU
VARIANTS = ("plain", "chunked")


def plain(hidden: Tensor, head: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The same two results from the whole matrix of logits."""
    logprobs = torch.log_softmax((hidden @ head.T).float() / temperature, dim=-1)
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
    return logprobs.gather(1, tokens[:, None]).squeeze(1), entropy


def drawn(device: str, tokens: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, output head, tokens."""
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN, generator=generator, device=device).requires_grad_()
    head = (0.02 * torch.randn(vocabulary, HIDDEN, generator=generator, device=device)).requires_grad_()
    return hidden, head, torch.randint(vocabulary, (tokens,), generator=generator, device=device)


def measure(variant: str, device: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """Seconds and peak memory (MB) of forward and backward; norms by which the variants are compared."""
    hidden, head, chosen = drawn(device, tokens, vocabulary)
    upstream = torch.linspace(-1.0, 1.0, tokens, device=device)
    # threads and libraries are up before the memory is read, and exp is the same on all threads from its second call on
    (hidden[:8] @ head[:8].T).sum().backward()
    torch.zeros(2**18).exp()
    hidden.grad = head.grad = None
    before, begin = memory(device, peak=False), time.perf_counter()
    function = {"plain": plain, "chunked": token_logprobs}[variant]
    logprobs, entropy = function(hidden, head, chosen, 1.0)
    (logprobs * upstream).sum().backward()
    after = memory(device, peak=True)  # waits for the GPU
    took = time.perf_counter() - begin
    checks: dict[str, Any] = {"logprobs": logprobs, "entropy": entropy, "hidden": hidden.grad, "head": head.grad}
    return {"s": took, "MB": after - before} | {
        name: float(values.detach().double().norm()) for name, values in checks.items()
    }


def memory(device: str, *, peak: bool) -> float:
    """Memory held now, or at most so far, in MB."""
    if device == "cuda":
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 1e6
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1e-6 if sys.platform == "darwin" else 1.024e-3)
    pages = Path("/proc/self/statm")
    return (
        int(pages.read_text().split()[1]) * resource.getpagesize() / 1e6
        if pages.exists()
        else memory(device, peak=True)
    )


def rows(device: str, tokens: int | None = None, vocabulary: int = VOCABULARY, runs: int = 3) -> Iterator[Row]:
    """Memory and time of the chunked computation over those of the plain one, runs in turn, minima."""
    tokens = tokens or TOKENS[device]
    tokens = tokens if device == "cpu" else min(tokens, fitting_tokens(vocabulary))
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for run in range(runs):
        for variant in VARIANTS:
            print(f"log-probabilities of {tokens} tokens, {variant}, run {run + 1} of {runs} ...", flush=True)
            found[variant].append(in_own_process(variant, device, tokens, vocabulary))
    best = {variant: {key: min(r[key] for r in results) for key in ("s", "MB")} for variant, results in found.items()}
    for variant in VARIANTS:
        yield Row(f"{variant} log-probabilities and entropy, {tokens:,} tokens", best[variant]["s"], "s")
        yield Row(f"{variant}, peak memory above the inputs", best[variant]["MB"], "MB")
    memory_limit, time_limit = (0.2, 1.7) if device == "cpu" else (None, 1.4)
    yield Row(
        "log-probabilities and entropy: memory, chunked / plain",
        best["chunked"]["MB"] / best["plain"]["MB"],
        "times",
        at_most=memory_limit,
    )
    yield Row(
        "log-probabilities and entropy: time, chunked / plain",
        best["chunked"]["s"] / best["plain"]["s"],
        "times",
        at_most=time_limit,
    )
    one, other = found["plain"][0], found["chunked"][0]
    worst = max(abs(one[name] / other[name] - 1) for name in ("logprobs", "entropy", "hidden", "head"))
    yield Row("largest relative difference of the norms of values and gradients", worst, "", at_most=1e-5)


def fitting_tokens(vocabulary: int) -> int:
    """How many tokens the plain computation has room for on this GPU: five matrices of logits in half its memory."""
    return int(torch.cuda.get_device_properties(0).total_memory / 2 / (5 * 4 * vocabulary))


def in_own_process(variant: str, device: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """`measure` in a new process with the same number of threads."""
    numbers = [str(number) for number in (tokens, vocabulary, torch.get_num_threads())]
    command = [sys.executable, "-m", "benchmarks.logprobs", variant, device, *numbers]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def measure_warm_gpu(variant: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """`measure` on a GPU whose kernels are loaded."""
    measure(variant, "cuda", tokens, vocabulary)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return measure(variant, "cuda", tokens, vocabulary)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[5]))
    wanted, place, sizes = sys.argv[1], sys.argv[2], (int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(measure_warm_gpu(wanted, *sizes) if place == "cuda" else measure(wanted, place, *sizes)))
