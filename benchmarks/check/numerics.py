"""Whether the device computes what the host does in higher precision, and the same bits every time."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.check.finding import Finding, at_most
from benchmarks.models import random_policy
from benchmarks.timing import interleaved
from harness.algorithm.noise import tolerance
from harness.model import logprobs
from harness.model.attention import Kind
from harness.model.packing import TokenBatch, causal, pack_batch
from harness.model.policy import Policy
from harness.rollouts.sampler import Sampling, sample

LARGEST_GAP = {"float32": 1e-3, "bfloat16": 0.25}  # nats, of a single token
SMALL = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2}
SMALL |= {"intermediate_size": 512}
RESPONSES = (200, 180, 90, 33, 12, 5, 1, 1)  # tokens
WIDTH = 2e-2  # of a gradient: how far bfloat16's may be from float32's
DTYPES = {"float32": (torch.float32, torch.float64, 1e-4), "bfloat16": (torch.bfloat16, torch.float32, WIDTH)}


def operators(device: str) -> Iterator[Finding]:
    """Operators whose kernels once were not deterministic: none is refused, and all give the same bits twice."""

    def drawn(*shape: int, **more: Any) -> Tensor:
        return torch.randn(*shape, device=device, **more)

    def embedded() -> Tensor:
        weight = drawn(9, 8, requires_grad=True)
        torch.nn.functional.embedding(torch.randint(9, (9999,), device=device), weight).sum().backward()
        return weight.grad  # type: ignore[return-value]

    places = torch.arange(9, device=device)
    runs: dict[str, Callable[[], Tensor]] = {
        "cumsum": lambda: drawn(64, 20000, dtype=torch.float64).cumsum(-1),
        "cumsum of one row": lambda: drawn(1, 150000, dtype=torch.float64).cumsum(-1),
        "scatter_add_": lambda: drawn(64, 999).scatter_add_(1, places.repeat(64, 1) // 2, drawn(64, 9)),
        "index_add": lambda: torch.zeros(9, 8, device=device).index_add(0, places.repeat(111) // 2, drawn(999, 8)),
        "index_put": lambda: drawn(99, 8).index_put((places,), drawn(9, 8)),
        "masked_scatter": lambda: drawn(64, 64).masked_scatter(drawn(64, 64) > 0, drawn(64 * 64)),
        "gradient of an embedding": embedded,
        "sort": lambda: drawn(64, 20000).sort(-1).values,
        "logsumexp": lambda: drawn(64, 150000).logsumexp(1),
    }
    for name, run in runs.items():
        found = []
        for _ in range(2):
            torch.manual_seed(0)
            found.append(run())
        yield Finding(f"{name} gives the same bits twice", same := torch.equal(*found), same)


def attention(device: str) -> Iterator[Finding]:
    """Attention has the same bits with and without a gradient, and the same gradient every time."""
    for name, (dtype, _, _) in DTYPES.items():
        for window in (None, 64):
            torch.manual_seed(0)
            query, *both = (torch.randn(2, n, 200, 64, device=device).to(dtype).requires_grad_() for n in (8, 2, 2))
            states = (query, both[0], both[1])
            kind, about = Kind(0.125, window), f"attention in {name}{', window' if window else ''}"
            with torch.no_grad():
                plain = causal(states, kind)
            found = [torch.autograd.grad(causal(states, kind).sum(), states) for _ in range(3)]
            same = torch.equal(plain, causal(states, kind))
            yield Finding(f"{about}: the same bits with and without a gradient", same, same)
            same = all(map(torch.equal, found[0] * 2, found[1] + found[2]))
            yield Finding(f"{about}: the same gradient three times", same, same)


def packed(policy: Policy) -> TokenBatch:
    """Random texts of RESPONSES, two behind each prompt."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> list[int]:
        return torch.randint(2, policy.model.config.vocab_size, (count,), generator=generator).tolist()

    prompts = [drawn(40) for _ in RESPONSES[::2]]
    return pack_batch([prompts[i // 2] for i in range(len(RESPONSES))], list(map(drawn, RESPONSES)), policy.device)


def gradient(policy: Policy) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the texts, and the gradient of their sum, in float64 on the host."""
    policy.model.zero_grad()
    scored, _ = policy.logprobs(packed(policy), 1.0)
    scored.sum().backward()
    parts = [one.grad.double().flatten().cpu() for one in policy.model.parameters()]
    return scored.detach().double().cpu(), torch.cat(parts)


def trainer(device: str) -> Iterator[Finding]:
    """Log-probabilities and gradients beside the host's in higher precision, and the sampler's beside the trainer's."""
    for name, (dtype, exact, limit) in DTYPES.items():
        here = random_policy(SMALL | {"model_type": "qwen2", "vocab_size": 2000}, device, dtype)
        host = dataclasses.replace(here, model=copy.deepcopy(here.model).to("cpu", exact))
        (ours, own), (theirs, other), again = gradient(here), gradient(host), gradient(here)
        yield at_most(
            f"{name}: log-probabilities off the host's", float((ours - theirs).abs().max()), LARGEST_GAP[name]
        )
        yield at_most(f"{name}: gradient off the host's", float((own - other).norm() / other.norm()), limit)
        same = torch.equal(ours, again[0]) and torch.equal(own, again[1])
        yield Finding(f"{name}: the same bits twice", same, same)
        with torch.no_grad():
            plain, _ = here.logprobs(packed(here), 1.0)
        off = float((plain.double().cpu() - ours).abs().max())
        yield at_most(f"{name}: noise of a pass without a gradient", off, tolerance(device, name))
        yield at_most(f"{name}: sampler off the trainer", sampler_gap(here), LARGEST_GAP[name])


def sampler_gap(policy: Policy) -> float:
    """The largest distance of a sampled token's log-probability from the trainer's."""
    prompts = [[2] * 9, [3] * 30]
    uniforms = torch.rand(8, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    drawn = sample(policy, prompts, uniforms, Sampling(40))
    with torch.no_grad():
        batch = pack_batch([prompts[row // 4] for row in range(8)], [one.tokens for one in drawn], policy.device)
        known = policy.logprobs(batch, 1.0)[0].tolist()
    pairs = (zip(one.logprobs, row, strict=False) for one, row in zip(drawn, known, strict=True))
    return max(float(abs(ours - theirs)) for pair in pairs for ours, theirs in pair)


def head(device: str) -> Iterator[Finding]:
    """The head in bfloat16 beside its products in float32, and what chunks of several sizes take."""
    tokens, hidden, vocabulary = (4096, 896, 151936) if device == "cuda" else (32, 64, 2048)
    generator = torch.Generator(device).manual_seed(0)
    states = torch.randn(tokens, hidden, device=device, generator=generator).bfloat16()
    weight = (0.05 * torch.randn(vocabulary, hidden, device=device, generator=generator)).bfloat16()
    targets = torch.randint(vocabulary, (tokens,), device=device, generator=generator)
    upstream = torch.randn(tokens, device=device, generator=generator)

    def run(dtype: torch.dtype) -> tuple[Tensor, ...]:
        leaves = states.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        scored, _ = logprobs.token_logprobs(*leaves, targets, 1.0)
        return scored.detach(), *torch.autograd.grad((scored * upstream).sum(), leaves)

    names = "log-probabilities", "gradient of the states", "gradient of the head"
    for name, ours, theirs in zip(names, run(torch.bfloat16), run(torch.float32), strict=True):
        off = float((ours.float() - theirs.to(ours.dtype).float()).norm() / theirs.norm())
        yield at_most(f"head, {name} off those in float32", off, 1e-4)
    kept = logprobs.GPU_CHUNK_BYTES
    for power in (26, 28, 29, 30):
        logprobs.GPU_CHUNK_BYTES = 2**power
        taken = interleaved({name: partial(run, dtype) for name, (dtype, _, _) in DTYPES.items()}, 2, device)
        yield Finding(f"head, seconds with chunks of 2^{power} bytes", {name: round(s, 5) for name, s in taken.items()})
    logprobs.GPU_CHUNK_BYTES = kept
