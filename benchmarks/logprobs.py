"""Log-probabilities and entropy without the matrix of logits, beside the plain computation: memory and time on a CPU.

Each variant runs in a process of its own, whose peak of resident memory above what it held before is taken.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.frame import Row
from harness.errors import HarnessError
from harness.model.logprobs import token_logprobs

STATUS = Path("/proc/self/status")
HIDDEN, VOCABULARY, TOKENS = 896, 151_936, 2048  # of Qwen2.5-0.5B


def plain(hidden: Tensor, head: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The same two results as `token_logprobs` from the whole matrix of logits."""
    logprobs = torch.log_softmax((hidden @ head.T).float() / temperature, dim=-1)
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
    return logprobs.gather(1, tokens[:, None]).squeeze(1), entropy


VARIANTS = {"plain": plain, "chunked": token_logprobs}


def rows(tokens: int = TOKENS, vocabulary: int = VOCABULARY, runs: int = 3) -> Iterator[Row]:
    """Memory and time beside the plain computation, runs in turn, minima. Raises HarnessError where values differ."""
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    for run in range(runs):
        for variant in VARIANTS:
            print(f"log-probabilities of {tokens} tokens, {variant}, run {run + 1} of {runs} ...", flush=True)
            found[variant].append(in_own_process(variant, tokens, vocabulary))
    one, other = found["plain"][0], found["chunked"][0]
    worst = max(abs(one[name] / other[name] - 1) for name in ("logprobs", "entropy", "hidden", "head"))
    if worst > 1e-5:
        raise HarnessError(
            f"expected norms of values and gradients that agree to 1e-5, got a difference of {worst:.1e}"
        )
    best = {variant: {key: min(run[key] for run in each) for key in ("s", "MB")} for variant, each in found.items()}
    figure = f"log-probabilities and entropy of {tokens:,} tokens"
    for key, name, target in (("MB", "peak memory", 5.0), ("s", "time", 0.6)):
        ours, peer = best["chunked"][key], best["plain"][key]
        yield Row(f"{figure}, {name}", ours, key, peer, target=target, is_cost=True)


def in_own_process(variant: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """`measure` in a new process with the same number of threads."""
    numbers = [str(number) for number in (tokens, vocabulary, torch.get_num_threads())]
    command = [sys.executable, "-m", "benchmarks.logprobs", variant, *numbers]
    measured: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return measured


def drawn(tokens: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, output head, tokens."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN, generator=generator).requires_grad_()
    head = (0.02 * torch.randn(vocabulary, HIDDEN, generator=generator)).requires_grad_()
    return hidden, head, torch.randint(vocabulary, (tokens,), generator=generator)


def measure(variant: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """Seconds and peak memory (MB) of forward and backward; norms by which the variants are compared."""
    hidden, head, chosen = drawn(tokens, vocabulary)
    upstream = torch.linspace(-1.0, 1.0, tokens)
    # threads and libraries are up before the memory is read, and exp is the same on all threads from its second call on
    (hidden[:8] @ head[:8].T).sum().backward()
    torch.zeros(2**18).exp()
    hidden.grad = head.grad = None
    before, begin = resident_mb("VmRSS"), time.perf_counter()
    logprobs, entropy = VARIANTS[variant](hidden, head, chosen, 1.0)
    (logprobs * upstream).sum().backward()
    taken = {"s": time.perf_counter() - begin, "MB": resident_mb("VmHWM") - before}
    assert hidden.grad is not None
    assert head.grad is not None
    checks = {"logprobs": logprobs, "entropy": entropy, "hidden": hidden.grad, "head": head.grad}
    return taken | {name: float(values.detach().double().norm()) for name, values in checks.items()}


def resident_mb(line: str) -> float:
    """Resident memory in MB: VmRSS now, VmHWM at most so far; without /proc the latter for both."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1e-6 if sys.platform == "darwin" else 1.024e-3)
    return int(STATUS.read_text().partition(f"{line}:")[2].split()[0]) * 1.024e-3


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
