"""How fast updates and sampling are, and how the memory that they take compares with what `harness plan` says."""

import tomllib
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.arithmetic import product_rate
from benchmarks.check.finding import Finding
from benchmarks.models import random_policy
from harness.config.resolve import resolve
from harness.config.schema import ModelSettings
from harness.model.checkpointing import enable_checkpointing
from harness.plan.job import find_gpu, make_job
from harness.plan.memory import Pass
from harness.plan.shapes import SHAPES, shape_of

MODELS = ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B")
ROWS, TOKENS = 4, 8192  # of an update's texts
TINY: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY |= {"intermediate_size": 128, "vocab_size": 500}  # on a CPU, so that the code runs


def speed(device: str) -> Iterator[Finding]:
    """Updates and sampling in bfloat16, activations recomputed."""
    is_gpu = device == "cuda"
    side, tokens = (8192, TOKENS) if is_gpu else (64, 48)
    rate = product_rate(torch.randn(side, side, device=device, dtype=torch.bfloat16), 3)
    yield Finding("matrix products in bfloat16, TFLOP/s", rate / 1e12)
    known = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    for name in MODELS if is_gpu else MODELS[:1]:
        policy = random_policy(known[name] | ({} if is_gpu else TINY), device, torch.bfloat16)
        enable_checkpointing(policy.model)
        batch, about = gpu.random_batch(policy, ROWS if is_gpu else 1, tokens), name.partition("/")[2]
        for row in (gpu.update(about, policy, batch, rate), gpu.sampling(about, policy, tokens, rate)):
            yield Finding(f"{row.figure}, {row.unit}", row.ours)
            yield Finding(f"{row.figure}, share of the device's rate", row.share)
        if is_gpu:
            yield Finding(f"{about}: update, GiB beyond weights and gradients", gpu.peak_gib(policy, batch))
            yield Finding(f"{about}: the same by our plan", planned_gib(name))
        del policy, batch
        if is_gpu:
            torch.cuda.empty_cache()


def planned_gib(model: str) -> float:
    """GiB that harness/plan/memory.py gives the update's activations and its head."""
    lengths = {"max_prompt_tokens": gpu.PROMPT, "max_response_tokens": TOKENS, "micro_batch_size": ROWS}
    data = {"task": "math", "train_data": "none", "eval_data": "none"}
    more = {"dtype": "bfloat16", "gradient_checkpointing": True, "group_size": ROWS, "prompts_per_step": 2}
    config = resolve({"model": model, "minibatches": 2} | lengths | data | more)
    one = Pass(make_job(config, shape_of(ModelSettings(model=model)), 1, find_gpu("h200")))
    return (one.kept + max(one.layer_work, one.head_work)) / 2**30
