"""What a GPU must show, as `make check-gpu` runs it: the host's numbers, the same bits twice, speed, memory as planned.

Without a GPU the numbers are the CPU's own, and what needs one is skipped.
"""

import copy
import dataclasses
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.arithmetic import FORWARD_AND_BACKWARD, Group, forward_flops, product_rate, quickest
from benchmarks.models import endless, random_policy
from harness.algorithm.noise import tolerance
from harness.backends.torch_setup import set_up_torch
from harness.config.resolve import resolve
from harness.config.schema import ModelSettings
from harness.errors import Stopped
from harness.loop import train
from harness.model.checkpointing import enable_checkpointing
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.plan.job import make_job
from harness.plan.memory import Pass
from harness.plan.shapes import SHAPES, shape_of
from harness.resume import resume
from harness.rollouts.sampler import Sampling, sample
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.loop.test_pretended_gpu import CASES
from tests.harness.tiny import save_direct_answers, small_config, small_flags

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no GPU here")

SMALL = {"model_type": "qwen2", "vocab_size": 2000, "hidden_size": 256, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 512}
RESPONSES = (200, 180, 90, 33, 12, 5, 1, 1)  # tokens
# the host's dtype, and how far a log-probability (nats) and a gradient (relative) may be from the host's
DTYPES = {"float32": (torch.float64, 1e-3, 1e-4), "bfloat16": (torch.float32, 0.25, 2e-2)}
PROMPT, TOKENS, ROWS = 128, 8192, 4  # of an update's texts


@pytest.fixture(scope="module", autouse=True)
def torch_as_in_a_run() -> None:
    set_up_torch(threads=1)


def drawn(*shape: int, **more: Any) -> Tensor:
    return torch.randn(*shape, device=DEVICE, **more)


def random_texts(policy: Policy) -> TokenBatch:
    """Random texts with RESPONSES, two behind each prompt."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randint, 2, policy.model.config.vocab_size, generator=generator)
    prompts = [draw((40,)).tolist() for _ in RESPONSES[::2]]
    responses = [draw((count,)).tolist() for count in RESPONSES]
    return pack_batch([prompts[i // 2] for i in range(len(RESPONSES))], responses, policy.device)


def gradient(policy: Policy) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the texts, and the gradient of their sum, in float64 on the host."""
    policy.model.zero_grad()
    scored, _ = policy.logprobs(random_texts(policy), 1.0)
    scored.sum().backward()
    parts = [one.grad.double().flatten().cpu() for one in policy.model.parameters()]
    return scored.detach().double().cpu(), torch.cat(parts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_trainer_computes_what_the_host_does_in_higher_precision(dtype: str, record_property: Any) -> None:
    exact, of_logprobs, of_gradient = DTYPES[dtype]
    here = random_policy(SMALL, DEVICE, getattr(torch, dtype))
    host = dataclasses.replace(here, model=copy.deepcopy(here.model).to("cpu", exact))
    (ours, own), (theirs, other), again = gradient(here), gradient(host), gradient(here)
    assert torch.equal(ours, again[0])
    assert torch.equal(own, again[1])
    with torch.no_grad():
        plain, _ = here.logprobs(random_texts(here), 1.0)
    noise = float((plain.double().cpu() - ours).abs().max())
    off = {
        "log-probabilities": (float((ours - theirs).abs().max()), of_logprobs),
        "gradient": (float((own - other).norm() / other.norm()), of_gradient),
        "noise of a pass without a gradient": (noise, tolerance(DEVICE, dtype)),
        "sampler": (sampler_gap(here), of_logprobs),
    }
    for what, (found, limit) in off.items():
        record_property(f"{what} off by", found)
        assert found <= limit, what


def sampler_gap(policy: Policy) -> float:
    """The largest distance of a sampled token's log-probability from the trainer's."""
    prompts = [[2] * 9, [3] * 30]
    uniforms = torch.rand(8, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    samples = sample(policy, prompts, uniforms, Sampling(40))
    batch = pack_batch([prompts[i // 4] for i in range(8)], [one.tokens for one in samples], policy.device)
    with torch.no_grad():
        known, _ = policy.logprobs(batch, 1.0)
    pairs = (zip(one.logprobs, row, strict=False) for one, row in zip(samples, known.tolist(), strict=True))
    return max(abs(ours - theirs) for pair in pairs for ours, theirs in pair)


@needs_gpu
@pytest.mark.train
@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_same_twice_and_stopped_and_resumed(case: str, tmp_path: Path) -> None:
    config = small_config(save_direct_answers(tmp_path), checkpoint_every=1, **CASES[case])
    first, second = (runs.trained(config, tmp_path / name) for name in ("first", "second"))
    with pytest.raises(Stopped):
        train(config, tmp_path / "third", stop_after(2))
    third = resume(tmp_path / "third", runs.ignore)
    for other in (second, third):
        assert runs.timeless(first) == runs.timeless(other)
        assert runs.weights(first) == runs.weights(other)


@needs_gpu
@pytest.mark.train
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_rank_under_deepspeed_has_torchs_weights(stage: int, tmp_path: Path) -> None:
    """Each run is a process of its own: a process has one group of ranks."""
    model, found = save_direct_answers(tmp_path), list[dict[str, Tensor]]()
    for name, more in (("torch", {}), ("zero", {"backend": "deepspeed", "zero_stage": stage})):
        words = [*small_flags(model, **more), "--output_dir", str(tmp_path / name)]
        command = [sys.executable, "-m", "harness", "train", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(load_file(tmp_path / name / "checkpoints" / "final" / "model.safetensors"))
    assert max(float((one - found[1][name]).abs().max()) for name, one in found[0].items()) <= 1e-5


def texts_of_one_length(policy: Policy, rows: int, tokens: int) -> TokenBatch:
    """Prompts of PROMPT random tokens, each with a response of its own."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(policy.model.config.vocab_size, (rows, PROMPT + tokens), generator=generator).tolist()
    return pack_batch([text[:PROMPT] for text in texts], [text[PROMPT:] for text in texts], policy.device)


def update(policy: Policy, batch: TokenBatch) -> None:
    policy.model.zero_grad()
    scored, _ = policy.logprobs(batch, 1.0)
    scored.sum().backward()


def planned_gib(model: str) -> float:
    """What `harness plan` says of an update's activations and its head."""
    lengths = {"max_prompt_tokens": PROMPT, "max_response_tokens": TOKENS, "micro_batch_size": ROWS}
    data = {"task": "math", "train_data": "none", "eval_data": "none"}
    more = {"dtype": "bfloat16", "gradient_checkpointing": True, "group_size": ROWS, "prompts_per_step": 2}
    config = resolve({"model": model, "minibatches": 2} | lengths | data | more)
    one = Pass(make_job(config, shape_of(ModelSettings(model=model)), 1, 140.4))
    return (one.kept + max(one.layer_work, one.head_work)) / 2**30


def test_the_planned_memory_grows_with_the_model() -> None:
    assert 3 < planned_gib("Qwen/Qwen2.5-0.5B") < planned_gib("Qwen/Qwen2.5-7B") < 100


@needs_gpu
@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B"])
def test_speed_and_memory_of_updates_and_sampling(name: str, record_property: Any) -> None:
    """In bfloat16 with activations recomputed; shares are of the rate of matrix products measured here."""
    rate = product_rate(drawn(8192, 8192, dtype=torch.bfloat16), torch.mm)
    policy = random_policy(tomllib.loads(SHAPES.read_text(encoding="utf-8"))[name], DEVICE, torch.bfloat16)
    enable_checkpointing(policy.model)
    batch = texts_of_one_length(policy, ROWS, TOKENS)
    update(policy, batch)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    taken = quickest(lambda: update(policy, batch))
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30
    needed = FORWARD_AND_BACKWARD * forward_flops(policy.model, [Group(PROMPT, [TOKENS])] * ROWS)
    prompts = [[1] * PROMPT]
    uniforms = torch.rand(64, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    sampling = quickest(lambda: sample(endless(policy), prompts, uniforms, Sampling(256)))
    figures = {
        "matrix products, TFLOP/s": rate / 1e12,
        "update, tokens/s": len(batch.tokens) / taken,
        "update, share of the rate": needed / taken / rate,
        "update, GiB beyond weights and gradients": peak,
        "the same as planned": planned_gib(name),
        "sampling of 64 texts, tokens/s": uniforms.size / sampling,
    }
    for what, found in figures.items():
        record_property(what, found)
    assert figures["update, share of the rate"] < 1
    assert peak < 1.15 * planned_gib(name)  # as close as the plan is to a CPU's tensors
