"""Sampling beside transformers' generate on one thread, and what it costs by number of prompts and in memory.

`generate` draws with its better cache, static or dynamic, without torch.compile. It gives tokens alone, ours their
log-probabilities and the entropies of what they were drawn from too.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import endless, random_policy
from benchmarks.table import Row
from benchmarks.timing import cpu_seconds, interleaved, interleaved_per_unit, one_thread
from harness.cli.output import print_warm_start
from harness.model.policy import Policy, load_policy, write_policy
from harness.randomness import stream
from harness.rollouts.decoding import read_prompts
from harness.rollouts.sampler import Sampling, sample
from harness.run.tiny_model import tiny_model_folder
from harness.tasks.chain_sum import CHAIN_SUMS

TASK = "graded_chain_sum"
GROUP_SIZE = 8
PROMPTS, TOKENS, LIMIT = 16, 64, 72
COUNTS = (4, 16, 64, 256)  # prompts
CACHES = ("dynamic", "static")


@dataclass(frozen=True)
class Batch:
    """What is asked: prompts, how many answers to each, and how long they may be."""

    prompts: list[list[int]]
    group_size: int
    max_tokens: int

    @property
    def rows(self) -> int:
        """Responses."""
        return len(self.prompts) * self.group_size


def rows(rounds: int = 9, counts: tuple[int, ...] = COUNTS, task: str = TASK) -> Iterator[Row]:
    """The peer first, then our own cost."""
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        fresh = random_policy()
        write_policy(Path(folder), fresh)
        fixed = asked(fresh, PROMPTS, TOKENS)
        print(f"sampling, {fixed.rows} rows of {TOKENS} tokens, beside generate ...", flush=True)
        yield from beside("64 tokens each", fixed, (endless(fresh), Path(folder)), rounds, at_least=1.7)
        warm = tiny_model_folder(task, 0, 1, print_warm_start)
        print(f"sampling, {fixed.rows} rows at the task's own lengths, beside generate ...", flush=True)
        own = load_policy(str(warm))
        yield from beside("the task's own lengths", asked(own, PROMPTS, LIMIT), (own, warm), rounds, at_least=2.5)
        yield from by_prompts(endless(fresh), counts, max(1, rounds // 2))
        yield from prefill(fresh, fixed, rounds)
        yield from cache(fresh, fixed)


def asked(policy: Policy, count: int, max_tokens: int) -> Batch:
    """Prompts of the built-in task."""
    problems = CHAIN_SUMS[TASK].draw_problems("train", count, stream("sampling benchmark", count), set())
    return Batch([policy.encode(problem.prompt) for problem in problems], GROUP_SIZE, max_tokens)


def beside(
    words: str, batch: Batch, sampled: tuple[Policy, Path], rounds: int, at_least: float | None
) -> Iterator[Row]:
    """Tokens per CPU second of ours and of generate's better cache. The folder's model draws as the policy does."""
    policy, folder = sampled
    is_free = policy.end_ids != endless(policy).end_ids
    functions: dict[str, Callable[[], int]] = {"ours": ours(policy, batch)}
    functions |= {cache: theirs(folder, batch, is_free, cache) for cache in CACHES}
    times = interleaved_per_unit(functions, rounds)
    better = min(CACHES, key=lambda name: times[name].median)
    figure = f"sampling, {words}: tokens per CPU second"
    yield Row(f"{figure}, median", 1 / times["ours"].median, "", at_least=at_least, peer=1 / times[better].median)
    yield Row(f"{figure}, best", 1 / times["ours"].minimum, "", peer=1 / times[better].minimum)
    other = CACHES[1 - CACHES.index(better)]
    yield Row(f"{figure}, generate with the {other} cache, median", 1 / times[other].median, "")


def ours(policy: Policy, batch: Batch) -> Callable[[], int]:
    """A call that samples the batch and says how many tokens came; other random numbers each time."""
    generator = stream("sampling benchmark")

    def run() -> int:
        uniforms = generator.random((batch.rows, batch.max_tokens))
        return sum(len(one.tokens) for one in sample(policy, batch.prompts, uniforms, Sampling(batch.max_tokens)))

    return run


def theirs(folder: Path, batch: Batch, is_free: bool, cache: str) -> Callable[[], int]:
    """The same by transformers' generate, whose prompts are repeated and padded on the left."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    pad, end = model.config.pad_token_id, model.config.eos_token_id
    model.generation_config = transformers.GenerationConfig(
        do_sample=True,
        top_k=0,
        max_new_tokens=batch.max_tokens,
        pad_token_id=pad,
        eos_token_id=end if is_free else None,
        cache_implementation=cache,
        disable_compile=True,
    )
    repeated = [prompt for prompt in batch.prompts for _ in range(batch.group_size)]
    width = max(map(len, repeated))
    tokens = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in repeated])
    real = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in repeated])

    def run() -> int:
        drawn = model.generate(input_ids=tokens, attention_mask=real)[:, width:]
        if not is_free:
            return int(drawn.numel())
        return sum((row.index(end) + 1) if end in row else len(row) for row in drawn.tolist())

    return run


def by_prompts(policy: Policy, counts: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Cost per token, which must not grow with the number of prompts."""
    print(f"sampling, {', '.join(map(str, counts))} prompts x {GROUP_SIZE} ...", flush=True)
    times = interleaved_per_unit({str(count): ours(policy, asked(policy, count, TOKENS)) for count in counts}, rounds)
    costs = [times[str(count)].minimum for count in counts]
    for count, cost in zip(counts, costs, strict=True):
        yield Row(f"sampling, {count} prompts x {GROUP_SIZE}: CPU time per token, minimum", 1e6 * cost, "us")
    growth = max(later / earlier for i, earlier in enumerate(costs) for later in costs[i:])
    yield Row("sampling: cost per token, most that more prompts make of fewer", growth, "times", at_most=1.25)
    yield Row("sampling: cost per token, largest / smallest", max(costs) / min(costs), "times")


def prefill(policy: Policy, batch: Batch, rounds: int) -> Iterator[Row]:
    """Reading a group's prompt once beside reading it for every response."""
    repeated = [prompt for prompt in batch.prompts for _ in range(batch.group_size)]

    @torch.inference_mode()
    def once() -> object:
        return read_prompts(policy.model, batch.prompts, batch.group_size, batch.max_tokens)

    @torch.inference_mode()
    def for_each() -> object:
        return read_prompts(policy.model, repeated, 1, batch.max_tokens)

    times = interleaved({"once": once, "for each": for_each}, rounds, clock=cpu_seconds)
    figure = f"reading {len(batch.prompts)} prompts of groups of {batch.group_size}, beside once a response"
    yield Row(figure, 1e3 * times["once"].minimum, "ms", peer=1e3 * times["for each"].minimum, at_most=1.0)


def cache(policy: Policy, batch: Batch) -> Iterator[Row]:
    """Memory of keys and values, beside what their numbers take."""
    with torch.inference_mode():
        decoding, _ = read_prompts(policy.model, batch.prompts, batch.group_size, batch.max_tokens)
    held, columns = decoding.bias.shape
    settings = policy.model.config
    size = settings.hidden_size // settings.num_attention_heads
    numbers = settings.num_hidden_layers * 2 * settings.num_key_value_heads * size
    taken = decoding.cache_bytes
    yield Row("cache, per row and column", taken / (held * columns), "bytes", floor=4.0 * numbers, at_most=1.0)
    yield Row(f"cache of {held} rows of {columns} columns", taken / 2**20, "MiB")
