"""A model and a task so small that every response can be listed: five tokens, at most three to a response."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import tokenizers
import torch
import transformers

from harness.model.packing import pack_batch
from harness.model.policy import Policy
from harness.rollouts.engine import Key, SamplerContext, TorchEngine
from harness.rollouts.sampler import Sample, Sampling, sample
from harness.tasks.task import Grade, Problem, Split, Task
from tests.harness.tiny import small_config

PAD, END, LIMIT, TEMPERATURE = 0, 1, 3, 1.3
PROBLEMS = Problem("01", "1"), Problem("110", "#0")


class Echo(Task):
    """Right: exactly the answer."""

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        del split, generator, seen
        return list(PROBLEMS[:count])

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [Grade("right" if text == problem.answer else "wrong") for problem, text in responses]

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        del split
        return PROBLEMS[:count]

    def self_test(self) -> None: ...


@cache
def policy() -> Policy:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({c: i for i, c in enumerate("_$#01")}, unk_token="_"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    backend.decoder = tokenizers.decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="_", eos_token="$")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        settings = transformers.Qwen2Config(
            vocab_size=5, intermediate_size=16, max_position_embeddings=32, initializer_range=0.3, **shape
        )
        return Policy(transformers.Qwen2ForCausalLM(settings).eval(), tokenizer, frozenset({END}))


@dataclass
class GivenNumbers(TorchEngine):
    """The engine, with given uniform numbers in place of keyed ones."""

    uniforms: np.ndarray | None = None

    def generate(self, prompts: Sequence[list[int]], keys: Sequence[Key], sampling: Sampling) -> list[Sample]:
        if self.uniforms is None:
            return super().generate(prompts, keys, sampling)
        return sample(self.policy, list(prompts), self.uniforms[:, : sampling.max_tokens], sampling)


def context(uniforms: np.ndarray | None = None) -> SamplerContext:
    settings = {"max_response_tokens": LIMIT, "temperature": TEMPERATURE, "group_size": 100, "prompts_per_step": 100}
    config = small_config(minibatches=1, **settings)
    return SamplerContext(policy(), Echo(), config, GivenNumbers(policy(), uniforms=uniforms))


def responses(prefix: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Every response that begins so: ended, or cut at the limit."""
    found = []
    for length in range(1, LIMIT + 1):
        for tokens in product(range(5), repeat=length):
            is_whole = END not in tokens[:-1] and (tokens[-1] == END or length == LIMIT)
            if is_whole and length > len(prefix) and tokens[: len(prefix)] == prefix:
                found.append(tokens)
    return found


def is_right(problem: Problem, tokens: tuple[int, ...]) -> bool:
    return tokens[-1] == END and policy().decode(list(tokens)) == problem.answer


def logprobs(problem: Problem, listed: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """log pi of each token, one row per response."""
    prompts = [policy().encode(problem.prompt)] * len(listed)
    return policy().logprobs(pack_batch(prompts, [list(tokens) for tokens in listed], policy().device), TEMPERATURE)[0]


def value(problem: Problem, prefix: tuple[int, ...]) -> float:
    """The chance of a right answer after the prefix, over all its continuations."""
    listed = responses(prefix)
    with torch.no_grad():
        chances = logprobs(problem, listed).double()[:, len(prefix) :].sum(dim=1).exp()
    assert abs(float(chances.sum()) - 1) < 1e-6
    return float(chances @ torch.tensor([is_right(problem, tokens) for tokens in listed], dtype=torch.float64))
