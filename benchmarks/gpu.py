"""On a GPU, bfloat16, random weights of Qwen2.5's shapes: tokens per second of updates and sampling, and peak memory.

Beside each stands the device's matrix-multiply rate, measured in the same run.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks import logprobs
from benchmarks.arithmetic import FORWARD_AND_BACKWARD, Group, forward_flops
from benchmarks.models import NEVER
from benchmarks.table import Row
from benchmarks.timing import interleaved
from harness.model.attention import last_hidden_states
from harness.model.checkpointing import checkpointing
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.plan.shapes import SHAPES
from harness.rollouts.sampler import Sampling, sample
from harness.run.tiny_model import character_tokenizer

MODELS = ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B")
TOKENS = (4096, 16384)  # of a response
PROMPT, BUDGET = 128, 32768  # tokens of a prompt, and of an update's pass
SAMPLED, ROWS = 256, 64  # tokens drawn behind a text of the whole length less these, and texts at a time
ROUNDS = 3


def rows(device: str) -> Iterator[Row]:
    """Every model and length; nothing without a GPU."""
    if device != "cuda":
        return
    rate = matrix_multiply_rate(device, 8192)
    yield Row("matrix products in bfloat16, 8192 x 8192", rate / 1e12, "TFLOP/s")
    known = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    for name in MODELS:
        policy = random_policy(known[name], device)
        for tokens in TOKENS:
            print(f"{name}, {tokens:,} tokens ...", flush=True)
            about = f"{name.partition('/')[2]} at {tokens:,}"
            batch = random_batch(policy, max(1, BUDGET // (PROMPT + tokens)), tokens)
            yield from update(about, policy, batch, rate)
            yield from peak_memory(about, policy, batch)
            yield from sampling(about, policy, tokens, rate)


def random_policy(shape: dict[str, Any], device: str) -> Policy:
    """A model of the shape with random weights, which no token ends, recomputing activations where it is trained."""
    import transformers

    with torch.device(device):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**shape))
    model.to(torch.bfloat16).eval()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return Policy(model, character_tokenizer(), frozenset({NEVER}))


def random_batch(policy: Policy, texts: int, tokens: int) -> TokenBatch:
    """Texts of one length, of random tokens."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(policy.model.config.vocab_size, (texts, PROMPT + tokens), generator=generator).tolist()
    return pack_batch([text[:PROMPT] for text in drawn], [text[PROMPT:] for text in drawn], policy.device)


def update(about: str, policy: Policy, batch: TokenBatch, rate: float) -> Iterator[Row]:
    """Forward and backward pass of an update."""
    taken = interleaved({"": lambda: forward_and_backward(policy, batch)}, ROUNDS, policy.device.type)[""].minimum
    groups = [Group(PROMPT, [len(text.response)]) for text in batch.layout.texts]
    needed = FORWARD_AND_BACKWARD * forward_flops(policy.model, groups)
    yield Row(f"{about}: update, tokens per second", len(batch.tokens) / taken, "")
    yield Row(f"{about}: update, beside matrix products", needed / taken / 1e12, "TFLOP/s", floor=rate / 1e12)


def forward_and_backward(policy: Policy, batch: TokenBatch) -> None:
    """Log-probabilities and a gradient, activations recomputed."""
    policy.model.zero_grad()
    with checkpointing(policy.model):
        scored, _ = policy.logprobs(batch, 1.0)
    scored.sum().backward()


def peak_memory(about: str, policy: Policy, batch: TokenBatch) -> Iterator[Row]:
    """The largest of an update beyond weights and gradients, with our log-probabilities and with the whole matrix."""
    ours = peak(policy, lambda: forward_and_backward(policy, batch))
    try:
        whole = peak(policy, lambda: with_whole_logits(policy, batch))
    except torch.OutOfMemoryError:
        whole = None
    yield Row(
        f"{about}: update, peak memory beside the matrix of logits", ours / 2**30, "GiB", peer=whole and whole / 2**30
    )


def with_whole_logits(policy: Policy, batch: TokenBatch) -> None:
    """The same from the whole matrix of logits."""
    policy.model.zero_grad()
    with checkpointing(policy.model):
        states = last_hidden_states(policy.model, batch.tokens[None], batch.positions[None], batch.layout)[0]
        head = policy.model.get_output_embeddings().weight
        scored, _ = logprobs.plain(states.index_select(0, batch.predictors), head, batch.targets, 1.0)
    scored.sum().backward()


def peak(policy: Policy, run: Callable[[], None]) -> int:
    """Bytes at most during a call, beyond what is held before it; 0 on a CPU, which does not count."""
    if policy.device.type != "cuda":
        run()
        return 0
    run()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return int(torch.cuda.max_memory_allocated() - before)


def sampling(about: str, policy: Policy, tokens: int, rate: float) -> Iterator[Row]:
    """The last tokens of texts of the whole length, by the sampler that training uses."""
    sampled, texts = min(SAMPLED, tokens // 2), max(1, min(ROWS, ROWS * 4096 // tokens))
    drawn = dataclasses.replace(policy, end_ids=frozenset({NEVER}))
    prompt = random_batch(policy, 1, tokens - sampled).tokens.tolist()
    uniforms = torch.rand(texts, sampled, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    functions = {
        name: (lambda count=count: sample(drawn, [prompt], uniforms[:, :count], Sampling(count)))
        for name, count in (("all", sampled), ("one", 1))
    }
    taken = interleaved(functions, ROUNDS, policy.device.type)
    seconds = taken["all"].minimum - taken["one"].minimum  # without reading the prompt
    needed = texts * forward_flops(policy.model, [Group(0, [sampled - 1])])
    yield Row(f"{about}: sampling, tokens per second of {texts} texts", texts * (sampled - 1) / seconds, "")
    yield Row(f"{about}: sampling, beside matrix products", needed / seconds / 1e12, "TFLOP/s", floor=rate / 1e12)


def matrix_multiply_rate(device: str, size: int) -> float:
    """FLOPs per second of a product of bfloat16 matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    taken = interleaved({"": lambda: torch.mm(left, right)}, ROUNDS, device)[""].minimum
    return 2.0 * size**3 / taken
