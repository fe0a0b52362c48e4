"""On a GPU in bfloat16, random weights of Qwen2.5's shapes: updates, their peak memory, and sampling.

The limit is the device's matrix-multiply rate, measured in the same run.
"""

import tomllib
from collections.abc import Iterator

import torch

from benchmarks.arithmetic import FORWARD_AND_BACKWARD, Group, forward_flops, product_rate
from benchmarks.frame import Row
from benchmarks.models import endless, random_policy
from benchmarks.timing import interleaved
from harness.model.checkpointing import checkpointing
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.plan.shapes import SHAPES
from harness.rollouts.sampler import Sampling, sample

MODELS = ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B")
TOKENS = (4096, 16384)  # of a response
PROMPT, BUDGET = 128, 32768  # tokens of a prompt, and of an update's pass
SAMPLED, TEXTS = 256, 64  # tokens drawn behind a text of the whole length less these, and texts at a time
SQUARE, ROUNDS = 8192, 3


def rows() -> Iterator[Row]:
    """Every model and length, activations recomputed."""
    rate = product_rate(torch.randn(SQUARE, SQUARE, device="cuda", dtype=torch.bfloat16), ROUNDS)
    known = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    for name in MODELS:
        policy = random_policy(known[name], "cuda", torch.bfloat16)
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        for tokens in TOKENS:
            about = f"{name.partition('/')[2]} at {tokens:,}"
            print(f"{about} tokens ...", flush=True)
            batch = random_batch(policy, max(1, BUDGET // (PROMPT + tokens)), tokens)
            yield update(about, policy, batch, rate)
            yield Row(f"{about}: update, peak memory", peak_gib(policy, batch), "GiB", is_cost=True)
            yield sampling(about, policy, tokens, rate)


def random_batch(policy: Policy, texts: int, tokens: int) -> TokenBatch:
    """Texts of one length, of random tokens."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(policy.model.config.vocab_size, (texts, PROMPT + tokens), generator=generator).tolist()
    return pack_batch([text[:PROMPT] for text in drawn], [text[PROMPT:] for text in drawn], policy.device)


def update(about: str, policy: Policy, batch: TokenBatch, rate: float) -> Row:
    """Forward and backward pass of an update."""
    taken = interleaved({"": lambda: forward_and_backward(policy, batch)}, ROUNDS, policy.device.type)[""]
    groups = [Group(PROMPT, [len(text.response)]) for text in batch.layout.texts]
    needed = FORWARD_AND_BACKWARD * forward_flops(policy.model, groups)
    tokens = len(batch.tokens)
    return Row(f"{about}: update", tokens / taken, "tokens/s", limit=tokens * rate / needed)


def forward_and_backward(policy: Policy, batch: TokenBatch) -> None:
    """Log-probabilities and a gradient."""
    policy.model.zero_grad()
    with checkpointing(policy.model):
        scored, _ = policy.logprobs(batch, 1.0)
    scored.sum().backward()


def peak_gib(policy: Policy, batch: TokenBatch) -> float:
    """GiB at most during an update, beyond the weights and gradients held before it."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    forward_and_backward(policy, batch)
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def sampling(about: str, policy: Policy, tokens: int, rate: float) -> Row:
    """The last tokens of texts of the whole length, by training's sampler; reading the prompt is taken off."""
    sampled, texts = min(SAMPLED, tokens // 2), max(1, min(TEXTS, TEXTS * 4096 // tokens))
    prompt = random_batch(policy, 1, tokens - sampled).tokens.tolist()
    uniforms = torch.rand(texts, sampled, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    functions = {
        name: (lambda count=count: sample(endless(policy), [prompt], uniforms[:, :count], Sampling(count)))
        for name, count in (("all", sampled), ("one", 1))
    }
    taken = interleaved(functions, ROUNDS, policy.device.type)
    seconds, drawn = taken["all"] - taken["one"], texts * (sampled - 1)
    needed = texts * forward_flops(policy.model, [Group(0, [sampled - 1])])
    return Row(f"{about}: sampling of {texts} texts", drawn / seconds, "tokens/s", limit=drawn * rate / needed)
