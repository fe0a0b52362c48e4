"""Sampling beside transformers' generate: tokens per CPU second on one thread, calls in turn.

`generate` draws with the better of its static and its dynamic cache, without torch.compile. It returns tokens alone,
ours also their log-probabilities and the entropies of what they were drawn from.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.arithmetic import Group, cpu_rate, forward_flops
from benchmarks.frame import Row
from benchmarks.models import TINY, endless, random_policy
from benchmarks.timing import interleaved_per_unit, one_thread
from harness.cli.train import print_warm_start
from harness.model.policy import Policy, load_policy, write_policy
from harness.randomness import stream
from harness.rollouts.sampler import Sampling, sample
from harness.run.tiny_model import tiny_model_folder
from harness.tasks.tiny import DEMONSTRATED

TASK, PROMPTS, GROUP_SIZE = "graded_chain_sum", 16, 8
CACHES = ("dynamic", "static")


@dataclass(frozen=True)
class Asked:
    """A model, as a policy and in a folder, and how long each response to each prompt may be."""

    policy: Policy
    folder: Path
    prompts: list[list[int]]
    max_tokens: int

    def drawn(self) -> list[int]:
        """The lengths of GROUP_SIZE responses a prompt by our sampler; other random numbers each time."""
        uniforms = RANDOM.random((GROUP_SIZE * len(self.prompts), self.max_tokens))
        drawn = sample(self.policy, self.prompts, uniforms, Sampling(self.max_tokens))
        return [len(one.tokens) for one in drawn]


RANDOM = stream("sampling benchmark")


def rows(rounds: int = 9, task: str = TASK) -> Iterator[Row]:
    """Responses of one length by random weights, then those of the warm-started model."""
    rate = cpu_rate()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        fresh = random_policy(TINY)
        write_policy(Path(folder), fresh)
        fixed = Asked(endless(fresh), Path(folder), prompts_of(fresh), 64)
        print(f"sampling beside generate, {PROMPTS * GROUP_SIZE} responses of 64 tokens ...", flush=True)
        yield beside("64 tokens each", fixed, rounds, rate, 1.7)
        warm = tiny_model_folder(task, 0, 1, print_warm_start)
        print("sampling beside generate, responses of the task's own lengths ...", flush=True)
        own = load_policy(str(warm))
        yield beside("the task's own lengths", Asked(own, warm, prompts_of(own), 72), rounds, rate, 2.5)


def prompts_of(policy: Policy, count: int = PROMPTS) -> list[list[int]]:
    """Prompts of the built-in task."""
    problems = DEMONSTRATED[TASK].draw_problems("train", count, stream("sampling benchmark", count), set())
    return [policy.encode(problem.prompt) for problem in problems]


def beside(words: str, asked: Asked, rounds: int, rate: float, target: float) -> Row:
    """Medians of ours and of generate's better cache; `rate` is the machine's, FLOPs per second."""
    functions: dict[str, Callable[[], int]] = {"ours": lambda: sum(asked.drawn())}
    times = interleaved_per_unit(functions | {cache: generate(asked, cache) for cache in CACHES}, rounds)
    peer = min(times[cache].median for cache in CACHES)
    lengths = asked.drawn()
    groups = [
        Group(len(prompt), lengths[place * GROUP_SIZE : (place + 1) * GROUP_SIZE])
        for place, prompt in enumerate(asked.prompts)
    ]
    limit = sum(lengths) * rate / forward_flops(asked.policy.model, groups)
    return Row(f"sampling, {words}", 1 / times["ours"].median, "tokens/s", 1 / peer, limit, target)


def generate(asked: Asked, cache: str) -> Callable[[], int]:
    """A call of transformers' generate that counts its tokens; prompts are repeated and padded on the left."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(asked.folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    pad, end = model.config.pad_token_id, model.config.eos_token_id
    is_free = end in asked.policy.end_ids
    model.generation_config = transformers.GenerationConfig(
        do_sample=True,
        top_k=0,
        max_new_tokens=asked.max_tokens,
        pad_token_id=pad,
        eos_token_id=end if is_free else None,
        cache_implementation=cache,
        disable_compile=True,
    )
    repeated = [prompt for prompt in asked.prompts for _ in range(GROUP_SIZE)]
    width = max(map(len, repeated))
    tokens = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in repeated])
    real = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in repeated])

    def run() -> int:
        drawn = model.generate(input_ids=tokens, attention_mask=real)[:, width:].tolist()
        return sum(row.index(end) + 1 if is_free and end in row else len(row) for row in drawn)

    return run
