"""`harness plan`: its peaks are those that this harness is seen to reach, counted on a CPU tensor by tensor."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from harness.algorithm.state import make_backend
from harness.backends.ranks import ALONE
from harness.config.resolve import resolve
from harness.config.schema import Config
from harness.model import logprobs
from harness.model.lora import with_adapters
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.plan import memory
from harness.plan.job import Job, make_job
from harness.plan.memory import CONTEXT, rollout, trainer
from harness.plan.shapes import shape_from
from harness.rollouts.sampler import Sampling, sample
from tests.harness.plan.live_memory import LiveMemory

SIZES: list[dict[str, Any]] = [
    {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192},
    {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 512},
]
CLOSE = 0.15  # of the measured bytes, as the issue asks; most are within 0.05


@pytest.fixture
def tensor_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head takes its products as on a GPU, from bfloat16 factors."""
    monkeypatch.setattr(logprobs, "factor", lambda tensor: tensor)
    monkeypatch.setattr(logprobs, "has_onednn", lambda weight: False)  # noqa: ARG005


class PadsWithZero:
    """The one thing that a batch asks of a tokenizer."""

    pad_token_id = 0


def values_of(size: int, vocabulary: int = 500, is_tied: bool = True) -> dict[str, Any]:
    """A small Qwen2's config.json."""
    more = {"num_key_value_heads": 2, "max_position_embeddings": 4096, "tie_word_embeddings": is_tied}
    return SIZES[size] | more | {"vocab_size": vocabulary, "model_type": "qwen2"}


def network(values: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """The model of those values with random weights."""
    settings = {name: value for name, value in values.items() if name != "model_type"}
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings)).to(dtype).eval()


def settings_of(prompt: int, response: int, **changes: Any) -> Config:
    """A run whose longest prompt and response are these."""
    lengths = {"max_prompt_tokens": prompt, "max_response_tokens": response}
    task = {"task": "math", "train_data": "a.jsonl", "eval_data": "b.jsonl"}
    return resolve(lengths | task | {"model": "small", "minibatches": 2} | changes)


def job_of(values: dict[str, Any], config: Config) -> Job:
    return make_job(config, shape_from(values, "small"), 1, 80.0)


def random_batch(rows: int, prompt: int, response: int) -> TokenBatch:
    """Each response behind a prompt of its own: the most that so many rows come to."""
    prompts, responses = (torch.randint(500, (rows, length)).tolist() for length in (prompt, response))
    return pack_batch(prompts, responses, torch.device("cpu"))


def is_close(planned: float, measured: float) -> bool:
    return abs(planned - measured) <= CLOSE * measured


@pytest.mark.parametrize(("budget", "rows"), [(64, 1), (223, 1), (224, 2), (10_000, 4)])
def test_a_budget_of_tokens_is_so_many_texts_of_full_length(budget: int, rows: int) -> None:
    config = settings_of(16, 96, micro_batch_tokens=budget, prompts_per_step=2, group_size=4)
    assert job_of(values_of(0), config).rows == rows


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 8}])
@pytest.mark.parametrize(("tokens", "chunks"), [(320, 1), (320, 8), (32, 1), (32, 8)])
@pytest.mark.usefixtures("tensor_cores")
def test_the_heads_peak_is_what_lives_at_most(
    dtype: str, changes: dict[str, Any], tokens: int, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where logits are most of it and where the head is; all logits at once and kept, and chunks that are not."""
    logits = 4 * 2000 * tokens
    for module, name in ((memory, "CHUNK_BYTES"), (memory, "KEPT_BYTES"), (logprobs, "CHUNK_BYTES")):
        monkeypatch.setattr(module, name, logits // chunks)
    monkeypatch.setattr(logprobs, "KEPT_BYTES", logits // chunks)
    hidden, head = (torch.randn(rows, 256).to(getattr(torch, dtype)) for rows in (tokens, 2000))
    hidden.requires_grad_()
    head.requires_grad_(not changes)
    values = values_of(1, 2000) | {"hidden_size": 256}
    forward, backward = memory.head_bytes(job_of(values, settings_of(8, 8, dtype=dtype, **changes)), logits)
    with LiveMemory([hidden, head]) as live:
        before = live.now
        scored, _ = logprobs.token_logprobs(hidden, head, torch.randint(2000, (tokens,)), 1.0)
        assert is_close(forward, live.peak - before)
        live.peak = live.now
        scored.sum().backward()
    assert is_close(backward, live.peak - before - hidden.nbytes)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"lora_rank": 8}])
@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.usefixtures("tensor_cores")
def test_the_trainers_peak_is_what_lives_at_most(
    rows: int, is_tied: bool, dtype: str, changes: dict[str, Any], is_checkpointed: bool
) -> None:
    """Two optimizer steps of two micro-batches; the second step's, when the moments exist, without a GPU's context."""
    values, response = values_of(1, 2000, is_tied), 320 // rows
    sizes = {"micro_batch_size": rows, "prompts_per_step": 2, "group_size": 2 * rows}
    config = settings_of(48, response, dtype=dtype, gradient_checkpointing=is_checkpointed, **sizes, **changes)
    policy = Policy(network(values, getattr(torch, dtype)), None, frozenset({0}))
    with LiveMemory([]):
        policy = with_adapters(policy, config.model)  # which tries them
    backend = make_backend(config, policy, ALONE)
    with LiveMemory([*policy.model.parameters(), *backend.masters.values()]) as live:
        for _ in range(2):
            backend.zero_grad()
            live.peak = live.now
            for is_last in (False, True):
                logprobs, _ = backend.logprobs(random_batch(rows, 48, response), 1.0)
                backend.backward(logprobs.mean(), is_last)
            del logprobs
            passes, live.peak = live.peak, live.now
            backend.step(backend.gradient_norm())
    *planned, step = trainer(job_of(values, config))
    assert is_close(max(moment.total for moment in planned) - CONTEXT, passes)
    assert is_close(step.total - CONTEXT, live.peak)


@pytest.mark.parametrize(
    ("dtype", "vocabulary", "prompt", "response", "top_p"),
    [
        ("float32", 200, 48, 200, 1.0),
        ("bfloat16", 200, 300, 8, 1.0),
        ("float32", 8000, 48, 48, 1.0),
        ("bfloat16", 8000, 48, 48, 0.7),
    ],
)
def test_the_samplers_peak_is_what_lives_at_most(
    dtype: str, vocabulary: int, prompt: int, response: int, top_p: float
) -> None:
    """All responses run to the limit, behind prompts of several lengths: the longest that a round can be."""
    values = values_of(1, vocabulary)
    config = settings_of(prompt, response, dtype=dtype, prompts_per_step=4, group_size=8, eval_top_p=top_p)
    model = network(values, getattr(torch, dtype))
    policy = Policy(model, PadsWithZero(), frozenset({vocabulary}))
    with LiveMemory(model.parameters()) as live:
        uniforms = np.random.default_rng(0).random((32, response))
        prompts = [[1] * length for length in (prompt - 18, prompt, prompt - 8, prompt)]
        samples = sample(policy, prompts, uniforms, Sampling(response, 1.0, top_p))
    assert all(one.truncated for one in samples)
    drawn = rollout(job_of(values, config))
    beside = ("gradients", "optimizer", "CUDA context")  # no step has been made here
    planned = [sum(size for part, size in moment.parts.items() if part not in beside) for moment in drawn]
    assert is_close(max(planned), live.peak)
